"""What exists in one job, by the names that users gave: the bridge from names to the engine's integers."""

from __future__ import annotations

import difflib
import functools
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from flstore.engine.state import State
from flstore.engine.view import View
from flstore.errors import CorruptObjectError, UpdateNotFoundError
from flstore.observed import Observed
from flstore.types import NO_CLIENT, Ingested, IntArray, Key, KeySet, Kind

if TYPE_CHECKING:
    from flstore.persistence import ObjectStore


CLOSED = "closed"
"""What the metadata of a round says of the server when the round was closed by hand."""

F = TypeVar("F", bound=Callable[..., Any])
MetadataFound: TypeAlias = Callable[[int, dict[str, dict[str, Any]]], None]


def _locked(method: F) -> F:
    """Run a method of the catalogue under its lock: another thread may be ingesting."""

    @functools.wraps(method)
    def run(self: Catalogue, *args: Any) -> Any:
        with self.lock:
            return method(self, *args)

    return run  # type: ignore[return-value]


class Names:
    """Strings to consecutive integers and back."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []

    def number(self, name: str) -> int:
        """The integer of `name`, a new one for a new name."""
        number = self._numbers.setdefault(name, len(self._names))
        if number == len(self._names):
            self._names.append(name)
        return number

    def find(self, name: str) -> int | None:
        """The integer of `name`, None when it is unknown."""
        return self._numbers.get(name)

    def name(self, number: int) -> str:
        """The name of an integer."""
        return self._names[number]

    def __iter__(self) -> Any:
        return iter(self._names)


class Catalogue:
    """Rounds, clients, aggregates and metadata of one job, on top of an engine state.

    Parameters
    ----------
    job : str
        The job.
    state : State
        Where what exists is noted. Guarded by ``lock``, which whoever changes it must hold.
    """

    def __init__(self, job: str, state: State) -> None:
        self.job = job
        self.jobs = Names()
        self.ids = Names()
        self.number = self.jobs.number(job)
        self.state = state
        self.lock = threading.RLock()
        self.observed = Observed()
        self.told_closed: set[int] = set()

    # --- what workloads ask (flstore.workloads.base.Catalogue) -------------------------------------------------------

    @_locked
    def rounds(self) -> list[int]:
        """All rounds with client updates, ascending."""
        return list(self.state.rounds.get((self.number, Kind.UPDATE), []))

    @_locked
    def clients(self, round: int) -> list[str]:
        """Clients with an update in `round`, sorted."""
        found = self._clients(Kind.UPDATE, round)
        if not found:
            raise UpdateNotFoundError(
                f"job {self.job!r} has no updates of round {round!r}; {self._rounds_in_words(round)}"
                f"{self.observed.why_hidden(round)}"
            )
        return found

    @_locked
    def all_clients(self) -> list[str]:
        """Every client that ever took part, sorted."""
        seen = [t.clients for slot, t in self.state.slots() if slot[1] is Kind.UPDATE]
        return sorted(map(self.ids.name, np.unique(np.concatenate(seen)).tolist())) if seen else []

    @_locked
    def rounds_of(self, client: str) -> list[int]:
        """Rounds in which `client` took part, ascending."""
        number = self.ids.find(client)
        rounds = [] if number is None else self.state.participations(self.number, number)
        if not rounds:
            raise UpdateNotFoundError(
                f"job {self.job!r} has no client {client!r}; {self._clients_in_words(client)}"
                f"{self.observed.why_hidden()}"
            )
        return list(rounds)

    @_locked
    def has_aggregate(self, round: int) -> bool:
        """Whether the global model after `round` is stored."""
        return View(self.state).aggregate(self.number, round)

    @_locked
    def aggregates(self) -> list[int]:
        """Rounds with an aggregate, ascending."""
        return list(self.state.rounds.get((self.number, Kind.AGGREGATE), []))

    @_locked
    def is_closed(self, round: int) -> bool:
        """Whether a round is over: its aggregate is there, or somebody said so."""
        return round in self.told_closed or self.has_aggregate(round)

    @_locked
    def closed(self) -> list[int]:
        """Rounds that are over, ascending."""
        return sorted(self.told_closed.union(self.aggregates()))

    @_locked
    def clients_with_metadata(self, round: int) -> list[str]:
        """Clients with metadata in `round`, sorted."""
        return self._clients(Kind.METADATA, round)

    @_locked
    def rounds_with_metadata(self) -> list[int]:
        """Rounds with metadata, ascending."""
        return list(self.state.rounds.get((self.number, Kind.METADATA), []))

    @_locked
    def update_sizes(self, round: int) -> dict[str, int]:
        """Bytes of each client's update in `round`; empty when there is none."""
        table = self.state.table((self.number, Kind.UPDATE, round))
        if table is None:
            return {}
        return {self.ids.name(c): size for c, size in zip(table.clients.tolist(), table.sizes.tolist(), strict=True)}

    # --- keys -------------------------------------------------------------------------------------------------------

    @_locked
    def key_sets(self, keys: Iterable[Key]) -> tuple[KeySet, ...]:
        """Keys as key sets: one a round for updates and metadata, one for all aggregates."""
        rounds: dict[tuple[Kind, int], list[int]] = {}
        aggregates: list[int] = []
        for key in keys:
            if key.client is None:
                aggregates.append(key.round)
            else:
                rounds.setdefault((key.kind, key.round), []).append(self.ids.number(key.client))
        sets = [KeySet.of_round(self.number, kind, r, sorted(ids)) for (kind, r), ids in sorted(rounds.items())]
        if aggregates:
            sets.append(KeySet.of_client(self.number, Kind.AGGREGATE, NO_CLIENT, sorted(aggregates)))
        return tuple(sets)

    @_locked
    def keys(self, keys: KeySet) -> list[Key]:
        """A key set as keys."""
        return [Key(self.job, keys.kind, r, None if c == NO_CLIENT else self.ids.name(c)) for r, c in keys.pairs()]

    @_locked
    def ingested(self, kind: Kind, round: int, sizes: Mapping[Any, int]) -> Ingested:
        """The event that objects of one kind and round arrived."""
        if kind is Kind.AGGREGATE:
            ids = [NO_CLIENT]
        else:
            ids = [self.ids.number(str(client)) for client in sizes]
        keys = KeySet.of_round(self.number, kind, round, ids)
        return Ingested(keys, np.fromiter(sizes.values(), dtype=np.int64, count=len(sizes)))

    @_locked
    def size(self, key: Key) -> int:
        """Bytes of an object, 0 when it does not exist."""
        sizes: IntArray = View(self.state).size(self.key_sets([key])[0])
        return int(sizes[0])

    @_locked
    def has(self, key: Key) -> bool:
        """Whether an object exists."""
        if key.client is None:
            return self.has_aggregate(key.round)
        number = self.ids.find(key.client)
        table = self.state.table((self.number, key.kind, key.round))
        return number is not None and table is not None and bool(table.rows(np.array([number]))[0] >= 0)

    # --- from the persistent store ----------------------------------------------------------------------------------

    def read(
        self, objects: ObjectStore, rounds: Iterable[int] | None = None, found: MetadataFound | None = None
    ) -> list[Ingested]:
        """List the job in the persistent store, or some rounds of it, and note what exists; the listing is the truth.

        With `found`, that is told the metadata rows of each round.

        Returns
        -------
        list of Ingested
            What was found, as events; already noted in the state.
        """
        from flstore.persistence.values import metadata_size

        if rounds is None:
            listed = list(objects.listing(self.job))
        else:
            listed = [(round, *objects.contents(self.job, round)) for round in rounds]
        documented = [round for round, _, _, has_metadata in listed if has_metadata]
        with ThreadPoolExecutor(8) as threads:
            rows = dict(zip(documented, threads.map(lambda r: self._rows(objects, r), documented), strict=True))
        with self.lock:
            events = []
            for round, clients, aggregate_bytes, _ in listed:
                if clients:
                    events.append(self.ingested(Kind.UPDATE, round, clients))
                if aggregate_bytes is not None:
                    events.append(self.ingested(Kind.AGGREGATE, round, {None: aggregate_bytes}))
                if rows.get(round):
                    self.observed.note(round, rows[round])
                    sizes = {client: metadata_size(row) for client, row in rows[round].items()}
                    events.append(self.ingested(Kind.METADATA, round, sizes))
            for event in events:
                self.state.register(event.keys, event.sizes)
        if found is not None:
            for round, of_round in rows.items():
                found(round, of_round)
        return events

    def _rows(self, objects: ObjectStore, round: int) -> dict[str, dict[str, Any]]:
        try:
            rows, server = objects.get_metadata(self.job, round)
        except CorruptObjectError as error:  # one damaged document must not keep all the rest out of reach
            warnings.warn(
                f"the metadata of round {round} is left out: {error}; restore it from a backup, or delete it with "
                f"ObjectStore.delete_metadata({self.job!r}, {round})",
                RuntimeWarning,
                stacklevel=2,
            )
            return {}
        if server.get(CLOSED):
            with self.lock:
                self.told_closed.add(round)
        return rows

    def _clients(self, kind: Kind, round: int) -> list[str]:
        table = self.state.table((self.number, kind, round))
        return [] if table is None else sorted(self.ids.name(c) for c in table.clients.tolist())

    def _rounds_in_words(self, near: int) -> str:
        rounds = self.rounds()
        if not rounds:
            return "nothing has been ingested yet"
        nearest = sorted(sorted(rounds, key=lambda r: abs(r - near))[:3])
        return f"nearest rounds: {', '.join(map(str, nearest))} ({len(rounds)} rounds, {rounds[0]} to {rounds[-1]})"

    def _clients_in_words(self, near: str) -> str:
        known = self.all_clients()
        if not known:
            return "nothing has been ingested yet"
        close = difflib.get_close_matches(near, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        more = f" and {len(known) - 10} more" if len(known) > 10 else ""
        return f"{hint}known: {', '.join(known[:10])}{more}"
