"""P4 in the process of the engine: the metadata that the policy wants, decoded, and requests answered from it.

The paper lets engine and tracker sit with the client. A request that reads a few values of metadata and nothing else
takes less than its way to a function, so it is computed here, in the thread that asks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flstore.catalogue import Catalogue
from flstore.errors import FLStoreError, RequestError
from flstore.functions import wire
from flstore.results import Question
from flstore.types import Action, Deleted, Drop, Event, FunctionJoined, Ingested, Key, KeySet, Kind, Load
from flstore.workloads.base import Inputs, Scope, Workload

PLACE = "engine"
"""What stands for a function in the records of requests that were answered here."""
LIMIT_BYTES = 8 << 20
"""Of metadata as JSON, of all rounds together; decoded it takes several times as much."""
MOST_ROWS = 2000
"""Of a request that is answered here, and of a round that is kept: it shall take a millisecond, not a second."""
PLANS = 64
"""Requests whose keys are remembered until something arrives or goes."""
PLAIN = frozenset([type(None), bool, int, float, str])

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request reads, valid until something arrives or goes.

    Attributes
    ----------
    keys, parts : list of Key, tuple of KeySet
        By name, and as the engine speaks of them.
    inputs : Inputs or None
        Its data; None where not all of it is here.
    plain : bool
        Whether no value can be changed by whoever gets it in an answer.
    """

    keys: list[Key]
    parts: tuple[KeySet, ...]
    inputs: Inputs | None
    plain: bool


class MetadataWindow:
    """The metadata that somebody wants in memory, of the rounds that were seen here. Guarded by the catalogue's lock.

    Rows come with ingests, and with the listing of a store that is opened again. They go when nobody wants them any
    more (P4's window has moved on), when they are deleted, and with the oldest round when there is no room.

    Parameters
    ----------
    catalogue : Catalogue
        What exists, with the state in which the wants are counted.
    found : dict of round to dict of client to row
        What was read when the store was opened; kept until the policy says what it wants of it.
    limit_bytes : int
        Of metadata as JSON that may be here.
    """

    def __init__(
        self, catalogue: Catalogue, found: Mapping[int, Mapping[str, Row]], limit_bytes: int = LIMIT_BYTES
    ) -> None:
        self._catalogue = catalogue
        self._state = catalogue.state
        self._limit_bytes = limit_bytes
        self._rounds: dict[int, dict[str, Row]] = {}
        self._found: dict[int, dict[str, Row]] = {}
        self._plans: dict[tuple[Workload, Scope], Plan] = {}
        total = 0
        for round in sorted(found, reverse=True):
            total += self._bytes_of(round)
            if total > limit_bytes:
                break
            self._found[round] = dict(found[round])

    @property
    def size_bytes(self) -> int:
        """Bytes of what is here, as JSON."""
        return sum(self._bytes_of(round) for round in self._rounds)

    def rounds(self) -> list[int]:
        """Rounds of which there is something here, ascending."""
        return sorted(self._rounds)

    # --- what comes and goes ----------------------------------------------------------------------------------------

    def note(self, event: Event, actions: Iterable[Action], values: Mapping[Key, Any]) -> None:
        """Follow an event that was applied, and what was decided about it; `values` has the rows that it brought."""
        if isinstance(event, Ingested | Deleted):
            self._plans.clear()
        if isinstance(event, Ingested) and event.keys.kind is Kind.METADATA:
            self._take(event.keys, values)
            for round in self.rounds():
                self._sweep(round)
        elif isinstance(event, Deleted):
            for keys in event.keys:
                if keys.kind is Kind.METADATA:
                    self._forget(keys)
        elif isinstance(event, FunctionJoined) and self._found:
            self._rounds, self._found = {**self._found, **self._rounds}, {}
            self._plans.clear()
            for round in self.rounds():
                self._sweep(round)
        for action in actions:
            if isinstance(action, Load | Drop) and action.keys.kind is Kind.METADATA:
                for round, _ in action.keys.by_round():
                    self._sweep(round)

    def _take(self, keys: KeySet, values: Mapping[Key, Any]) -> None:
        for key in self._catalogue.keys(keys):
            rows = self._rounds.setdefault(key.round, {})
            if (row := values.get(key)) is not None:
                rows[str(key.client)] = row
            else:
                rows.pop(str(key.client), None)
        while self._rounds and self.size_bytes > self._limit_bytes:
            del self._rounds[min(self._rounds)]

    def _forget(self, keys: KeySet) -> None:
        for key in self._catalogue.keys(keys):
            for rows in (self._rounds.get(key.round), self._found.get(key.round)):
                if rows is not None:
                    rows.pop(str(key.client), None)
            if not self._rounds.get(key.round, True):
                del self._rounds[key.round]

    def _sweep(self, round: int) -> None:
        """Let go of what nobody wants, and of a round that has grown too large."""
        rows = self._rounds.get(round)
        if rows is None:
            return
        table = self._state.table((self._catalogue.number, Kind.METADATA, round))
        if table is None or len(table.clients) > MOST_ROWS or not table.wants.any():
            del self._rounds[round]
            self._plans.clear()
        elif not table.wants.all():
            names = self._catalogue.ids
            wanted = {names.name(c) for c in table.clients[table.wants > 0].tolist()}
            self._rounds[round] = {client: row for client, row in rows.items() if client in wanted}
            self._plans.clear()

    def _bytes_of(self, round: int) -> int:
        table = self._state.table((self._catalogue.number, Kind.METADATA, round))
        return 0 if table is None else int(table.sizes.sum())

    # --- requests ---------------------------------------------------------------------------------------------------

    def needs(self, workload: Workload, scope: Scope) -> list[Key]:
        """The keys that a workload reads, which may be asked for again before anything changes. Not to be changed."""
        with self._catalogue.lock:
            return (self._known(workload, scope) or self._made(workload, scope, None)).keys

    def plan(self, question: Question) -> Plan | None:
        """How to answer a request from what is here; None when that cannot be done."""
        workload, scope = question.workload, question.scope
        if not workload.in_engine:
            return None
        plan = self._known(workload, scope) or self._made(workload, scope, question.keys)
        return None if plan.inputs is None else plan

    def _known(self, workload: Workload, scope: Scope) -> Plan | None:
        try:
            return self._plans.get((workload, scope))
        except TypeError:  # a parameter that cannot be hashed
            return None

    def _made(self, workload: Workload, scope: Scope, keys: list[Key] | None) -> Plan:
        if keys is None:
            keys = workload.needs(scope, self._catalogue)
        data, nothing = dict[Key, Any](), dict[str, Row]()
        if all(key.kind is Kind.METADATA for key in keys[: MOST_ROWS + 1]) and len(keys) <= MOST_ROWS:
            data = {key: self._rounds.get(key.round, nothing).get(str(key.client)) for key in keys}
        whole = bool(data) and None not in data.values()
        plain = whole and all(PLAIN.issuperset(map(type, row.values())) for row in data.values())
        plan = Plan(keys, self._catalogue.key_sets(keys), Inputs(scope, data) if whole else None, plain)
        if len(self._plans) >= PLANS:
            self._plans.clear()
        with contextlib.suppress(TypeError):
            self._plans[workload, scope] = plan
        return plan


def answer(question: Question, plan: Plan) -> None:
    """Compute, in this thread, and end the question; what was read counts as hits."""
    record, began = question.record, time.perf_counter()
    record.hits, record.late_hits, record.misses = len(plan.keys), 0, 0
    if question.left_s == 0:
        question.fail_at_deadline()
        return
    record.functions.append(PLACE)
    try:
        assert plan.inputs is not None
        value = question.workload.compute(plan.inputs)
        if not plan.plain:  # lists and dicts of the metadata itself must not be handed out
            value = wire.unpack_result(question.workload.result_type, wire.pack_result(value))
    except FLStoreError as error:
        question.fail(error)
    except Exception as error:  # what a workload raises reaches the caller as it does from a function
        question.fail(RequestError(f"{type(error).__name__}: {error}"))
    except BaseException as error:
        question.fail(error)
        raise
    else:
        record.compute_s = time.perf_counter() - began
        question.finish(value) if question.left_s != 0 else question.fail_at_deadline()
