"""What the engine's tests share: a policy that follows a script, and a driver that checks the promises after each event.

The driver keeps books of its own: what each owner wants, from what the policy said, and what each function would hold if
it did as the actions say. The state must agree with both.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np
from hypothesis import strategies as st

from flstore import policies
from flstore.engine import EventLog, State, step
from flstore.policies.base import Policy, View
from flstore.policies.taxonomy import CLASS_OF
from flstore.types import (
    NO_CLIENT, Action, Drop, Event, FunctionJoined, FunctionLost, Ingested, KeySet, Kind, Load, Loaded, LoadFailed,
    PolicyClass, Refused, Requested, Run, Unwant, Want,
)  # fmt: skip

Key: TypeAlias = tuple[int, Kind, int, int]
"""(job, kind, round, client)."""


def updates(round: int, *clients: int, job: int = 0) -> KeySet:
    return KeySet.of_round(job, Kind.UPDATE, round, clients)


def metadata(round: int, *clients: int, job: int = 0) -> KeySet:
    return KeySet.of_round(job, Kind.METADATA, round, clients)


def aggregate(round: int, job: int = 0) -> KeySet:
    return KeySet.of_client(job, Kind.AGGREGATE, NO_CLIENT, [round])


def ingested(keys: KeySet, *sizes: int) -> Ingested:
    """Sizes one by one, or one for all."""
    if isinstance(keys.rounds, np.ndarray):
        keys = KeySet.of_round(keys.job, keys.kind, int(keys.rounds[0]), [keys.clients])
    return Ingested(keys, np.array(sizes * len(keys) if len(sizes) == 1 else sizes, dtype=np.int64))


def requested(number: int, *keys: KeySet, workload: str = "clustering") -> Requested:
    round = keys[0].rounds if keys and isinstance(keys[0].rounds, int) else None
    return Requested(number, keys[0].job if keys else 0, workload, CLASS_OF[workload], round, None, keys)


def keys_of(keys: KeySet) -> list[Key]:
    return [(keys.job, keys.kind, round, client) for round, client in keys.pairs()]


def loads(actions: Iterable[Action]) -> dict[Key, int]:
    """The function to which each key is loaded."""
    return {key: a.function for a in actions if isinstance(a, Load) for key in keys_of(a.keys)}


def drops(actions: Iterable[Action]) -> dict[Key, int]:
    """The function from which each key is dropped."""
    return {key: a.function for a in actions if isinstance(a, Drop) for key in keys_of(a.keys)}


def refused(actions: Iterable[Action]) -> dict[Key, str]:
    """Why each key that was refused was."""
    return {key: a.reason for a in actions if isinstance(a, Refused) for key in keys_of(a.keys)}


def run(actions: Iterable[Action]) -> Run:
    (found,) = [a for a in actions if isinstance(a, Run)]
    return found


class Script(Policy):
    """Says at each request what its script holds for the number of that request, and nothing else."""

    name: ClassVar[str] = "script"

    def __init__(self, script: Mapping[int, Iterable[Want | Unwant]]) -> None:
        self._script = script

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant]:
        return self._script.get(event.request, ()) if isinstance(event, Requested) else ()


class _Books(Policy):
    """Writes down what another policy says."""

    name: ClassVar[str] = "books"

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.wanted: dict[Hashable, set[Key]] = {}

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant]:
        for said in list(self._policy.decide(event, view)):
            mine = self.wanted.setdefault(said.owner, set())
            if isinstance(said, Want):
                there = view.size(said.keys) > 0  # what does not exist cannot be wanted
                mine |= {key for key, exists in zip(keys_of(said.keys), there.tolist(), strict=True) if exists}
            else:
                mine -= set(keys_of(said.keys)) if said.keys is not None else set(mine)
            yield said


class Driver:
    """An engine under test, with its log and with books to compare it with."""

    def __init__(self, policy: Policy, initial: Iterable[Ingested] = ()) -> None:
        self.policy = _Books(policy)
        self.log = EventLog({"policy": policy.name}, list(initial))
        self.state: State = self.log.start()
        self.exists: dict[Key, int] = {k: s for e in self.log.initial for k, s in zip(keys_of(e.keys), e.sizes, strict=True)}
        self.functions: dict[int, set[Key]] = {}
        self.moves: list[Load | Drop] = []
        self.pending: list[Load] = []
        self.failed: set[Key] = set()

    def apply(self, event: Event) -> list[Action]:
        """One event through the engine, the log and the books."""
        self._before(event)
        actions = step(self.state, self.policy, event)
        self.log.append(event, actions)
        for action in actions:
            keys = set(keys_of(action.keys)) if isinstance(action, Load | Drop) else set()
            if isinstance(action, Load):
                self.functions[action.function] |= keys
                self.failed -= keys
                self.pending.append(action)
            elif isinstance(action, Drop):
                self.functions[action.function] -= keys
            if isinstance(action, Load | Drop):
                self.moves.append(action)
        return actions

    def _before(self, event: Event) -> None:
        match event:
            case Ingested(keys, sizes):
                self.exists.update(zip(keys_of(keys), sizes.tolist(), strict=True))
            case FunctionJoined(function, _, _, holds):
                self.functions[function] = {key for keys, _ in holds for key in keys_of(keys)}
            case FunctionLost(function, incarnation):
                known = self.state.functions.get(function)
                if known is not None and (not incarnation or incarnation == known.incarnation):
                    del self.functions[function]
            case LoadFailed(function, keys, _):
                self.functions[function] -= set(keys_of(keys))
                self.failed |= set(keys_of(keys))

    def wanted(self) -> set[Key]:
        return set().union(*self.policy.wanted.values())

    def check(self) -> None:
        """Everything that must hold between any two events."""
        holdings = {f: {(*slot, c) for slot, cs in held.items() for c in cs.tolist()} for f, held in self.state.holdings().items()}
        assert holdings == self.functions
        for f, known in self.state.functions.items():
            assert known.used_bytes == sum(self.exists[key] for key in self.functions[f])
            assert known.used_bytes <= known.capacity_bytes
        held = [key for keys in self.functions.values() for key in keys]
        assert len(held) == len(set(held)), "held by two functions"
        wanted = self.wanted()
        assert set(held) <= wanted, "held, and wanted by nobody"
        waiting = {
            (*w.slot, int(self.state.tables[w.slot[0], w.slot[1]][w.slot[2]].clients[row]))
            for w in self.state.waiting
            for row in w.rows.tolist()
        }
        assert wanted - set(held) <= waiting | self.failed
        for (job, kind, round), table in self.state.slots():
            owners = [sum((job, kind, round, c) in keys for keys in self.policy.wanted.values()) for c in table.clients.tolist()]
            assert table.wants.tolist() == owners


# --- histories ---------------------------------------------------------------------------------------------------------

Step: TypeAlias = tuple[Any, ...]

_ROUND, _CLIENTS = st.integers(0, 5), st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True)
_FUNCTION, _ANY = st.integers(0, 2), st.integers(0, 10_000)
_WORKLOADS = ["clustering", "malicious_filtering", "lineage", "hyperparameters", "inference"]

_TRAINING = [
    st.tuples(st.just("ingest"), st.sampled_from([0, 0, 1]), st.sampled_from([0, 0, 1, 2]), _ROUND, _CLIENTS, st.integers(1, 6)),
    st.tuples(st.just("request"), st.sampled_from(_WORKLOADS), _ANY, _CLIENTS, st.booleans()),
]
_REPORTS = [st.tuples(st.just("loaded"), _ANY)]
_FAULTS = [
    st.tuples(st.just("failed"), _ANY, _ANY),
    st.tuples(st.just("lost"), _FUNCTION, st.booleans()),
    st.tuples(st.just("joined"), _FUNCTION, st.integers(4, 30), _ANY),
]
_START = st.lists(st.integers(4, 30), min_size=1, max_size=3)


def histories(*, faults: bool, size: int = 24) -> st.SearchStrategy[tuple[list[int], list[Step]]]:
    """Capacities of the first functions, and what happens then."""
    weighted = _TRAINING * 5 + _REPORTS * 3 + (_FAULTS if faults else [])
    what = st.sampled_from(weighted).flatmap(lambda kind: kind)
    return st.tuples(_START, st.lists(what, min_size=size, max_size=2 * size))


def drive(history: tuple[list[int], list[Step]], policy: str, *, check: bool = False) -> Driver:
    """Let a history happen; what it cannot mean (a report on a load that is not under way) does not happen."""
    capacities, steps = history
    driver = Driver(policies.make(policy))
    for function, capacity in enumerate(capacities):
        driver.apply(FunctionJoined(function, capacity, f"{function}.0"))
    for number, what in enumerate(steps, start=1):
        event = _event(driver, number, what)
        if event is not None:
            driver.apply(event)
            if check:
                driver.check()
    return driver


def _event(driver: Driver, number: int, what: Step) -> Event | None:
    name, *rest = what
    return {"ingest": _ingest, "request": _request, "loaded": _loaded, "failed": _failed, "lost": _lost, "joined": _joined}[
        name
    ](driver, number, *rest)


def _ingest(driver: Driver, number: int, job: int, kind: int, round: int, clients: list[int], size: int) -> Event | None:
    who = [NO_CLIENT] if kind == Kind.AGGREGATE else clients
    keys = [(job, Kind(kind), round, c) for c in who]
    # Only metadata comes twice; growing is a test of its own, here it keeps its size.
    new = [key for key in keys if kind == Kind.METADATA or key not in driver.exists]
    if not new:
        return None
    sizes = [driver.exists.get(key, size + i) for i, key in enumerate(new)]
    return Ingested(KeySet.of_round(job, Kind(kind), round, [c for *_, c in new]), np.array(sizes, dtype=np.int64))


def _request(
    driver: Driver, number: int, workload: str, which: int, clients: list[int], with_aggregate: bool
) -> Event | None:
    """Something of a round that exists; some of the clients may not."""
    policy_class = CLASS_OF[workload]
    kind = Kind.METADATA if policy_class is PolicyClass.P4 else Kind.UPDATE
    there = sorted({(job, round) for job, k, round, _ in driver.exists if k is kind})
    if not there:
        return None
    job, round = there[which % len(there)]
    if policy_class is PolicyClass.P3:
        parts = [KeySet.of_client(job, kind, clients[0], sorted({round, there[-1][1]}))]
    else:
        parts = [KeySet.of_round(job, kind, round, clients)]
    if with_aggregate and (job, Kind.AGGREGATE, round - 1, NO_CLIENT) in driver.exists:
        parts.append(aggregate(round - 1, job))
    return Requested(number, job, workload, policy_class, round, None, tuple(parts))


def _loaded(driver: Driver, number: int, which: int) -> Event | None:
    if not driver.pending:
        return None
    load = driver.pending.pop(which % len(driver.pending))
    return Loaded(load.function, load.keys, load.generation)


def _failed(driver: Driver, number: int, which: int, part: int) -> Event | None:
    """Some objects of one load that is under way, and that nothing has superseded, could not be had."""
    current = [a for a in driver.pending if _is_current(driver, a)]
    if not current:
        return None
    load = current[which % len(current)]
    driver.pending.remove(load)
    ((round, clients),) = load.keys.by_round()
    if load.keys.kind is Kind.AGGREGATE:
        return LoadFailed(load.function, load.keys, "gone")
    return LoadFailed(load.function, KeySet(load.keys.job, load.keys.kind, round, clients[: 1 + part % len(clients)]), "gone")


def _is_current(driver: Driver, load: Load) -> bool:
    for _, table, _, rows in driver.state.resolve(load.keys):
        assert table is not None
        if not ((table.function[rows] == load.function) & (table.generation[rows] == load.generation)).all():
            return False
    return True


def _lost(driver: Driver, number: int, function: int, late_news: bool) -> Event:
    known = driver.state.functions.get(function)
    incarnation = "an earlier one" if late_news or known is None else known.incarnation
    return FunctionLost(function, incarnation)


def _joined(driver: Driver, number: int, function: int, capacity: int, choice: int) -> Event:
    """A function comes, or comes back; it brings what fits of some existing objects."""
    rng = np.random.default_rng(choice)
    holds, left = [], capacity
    for key in sorted(driver.exists):
        size = driver.exists[key]
        if size <= left and rng.random() < 0.3:
            holds.append((KeySet.of_round(key[0], key[1], key[2], [key[3]]), np.array([size], dtype=np.int64)))
            left -= size
    return FunctionJoined(function, capacity, f"{function}.{number}", tuple(holds))
