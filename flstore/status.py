"""A snapshot of a store, as data. How it looks is the business of ``flstore.display``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from flstore.cache_map import CacheMap
from flstore.engine.state import State
from flstore.engine.table import NOWHERE
from flstore.types import Key, Kind


@dataclass(frozen=True, repr=False)
class FunctionStatus:
    """One cache function: its memory, and what it holds; shows itself in a notebook."""

    name: str
    alive: bool
    capacity_bytes: int
    used_bytes: int
    updates: int
    aggregates: int
    metadata: int
    rounds: tuple[int, ...]
    copies: int = 0
    """Objects among these that another function holds as well, and stands first for."""
    leaving: bool = False

    def __repr__(self) -> str:
        from flstore.display.function import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.function import html

        return html(self)


def function_statuses(state: State, names: Mapping[int, str], closed: bool = False) -> tuple[FunctionStatus, ...]:
    """The functions of an engine state; none is alive that has no name, or whose store is closed."""
    held = state.holdings()
    copies = Counter(
        f for _, table in state.slots() for layer in table.copies for f in layer.function.tolist() if f != NOWHERE
    )
    statuses = []
    for number, function in sorted(state.functions.items()):
        count = {kind: sum(len(c) for slot, c in held[number].items() if slot[1] is kind) for kind in Kind}
        statuses.append(
            FunctionStatus(
                name=names.get(number, f"function {number}"),
                alive=number in names and not closed,
                capacity_bytes=function.capacity_bytes,
                used_bytes=function.used_bytes,
                updates=count[Kind.UPDATE],
                aggregates=count[Kind.AGGREGATE],
                metadata=count[Kind.METADATA],
                rounds=tuple(sorted({slot[2] for slot in held[number] if slot[1] is Kind.UPDATE})),
                copies=copies[number],
                leaving=function.leaving,
            )
        )
    return tuple(statuses)


@dataclass(frozen=True)
class ClassStatus:
    """Requests of one class of the taxonomy."""

    policy_class: str
    requests: int
    hits: int
    late_hits: int
    misses: int
    median_latency_s: float

    @property
    def hit_ratio(self) -> float:
        """Hits over all objects asked for; NaN for none."""
        total = self.hits + self.late_hits + self.misses
        return self.hits / total if total else float("nan")


@dataclass(frozen=True)
class Status:
    """What a store holds, and how its requests fared.

    Attributes
    ----------
    root, job, policy : str
        Where the persistent store is, the FL job, the caching policy.
    closed : bool
        Whether the store was closed.
    rounds, clients : int
        How many there are.
    latest_round : int or None
        The newest round.
    pending_bytes : int
        Bytes that are not durable yet.
    functions : tuple of FunctionStatus
        The cache functions.
    classes : tuple of ClassStatus
        Requests by class.
    system : str
        Whose status it is.
    problem : str
        What keeps it from being the whole truth, such as a persistent store that does not answer; empty for nothing.
    cache : CacheMap or None
        Where the updates are.
    dashboard : str
        URL of the dashboard of the Dask cluster; empty when there is none.
    """

    root: str
    job: str
    policy: str
    closed: bool
    rounds: int
    clients: int
    latest_round: int | None
    pending_bytes: int
    functions: tuple[FunctionStatus, ...]
    classes: tuple[ClassStatus, ...]
    system: str = "FLStore"
    problem: str = ""
    cache: CacheMap | None = field(default=None, compare=False, repr=False)
    dashboard: str = ""

    @classmethod
    def of(
        cls, store: Any, policy: str, functions: tuple[FunctionStatus, ...], pending_bytes: int,
        requests: Mapping[str, Mapping[str, Any]], problem: str = "", held: Collection[Key] | None = None,
        dashboard: str = "",
    ) -> Status:  # fmt: skip
        """Put a snapshot together, of what the store knows: nothing is asked for, so it works for a store that is gone.

        Parameters
        ----------
        store : System
            The store.
        policy : str
            Its caching policy.
        functions : tuple of FunctionStatus
            Its functions.
        pending_bytes : int
            Bytes that are not durable yet.
        requests : mapping
            Its requests, as :meth:`flstore.engine.tracker.Tracker.by_class` sums them up.
        problem : str
            What the reader of the status has to know.
        held : collection of Key, optional
            As for :meth:`flstore.cache_map.CacheMap.of`.
        dashboard : str
            URL of the dashboard of the Dask cluster.
        """
        rounds = store._catalogue.rounds()
        cache = CacheMap.of(store._catalogue, held, alive=not store.closed)
        classes = tuple(ClassStatus(name, **sums) for name, sums in requests.items())
        return cls(
            store.root, store.job, policy, store.closed, len(rounds), cache.clients,
            rounds[-1] if rounds else None, pending_bytes, functions, classes, store.name, problem, cache, dashboard,
        )  # fmt: skip

    def __repr__(self) -> str:
        from flstore.display.status import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.status import html

        return html(self)
