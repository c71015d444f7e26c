"""What the engine's tests share: a policy that follows a script, and a driver that checks what must always hold.

The driver keeps books of its own: what each owner wants, from what the policy said, and what each function would hold
if it did as the actions say. The state must agree with both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import ClassVar, TypeAlias

import numpy as np

from flstore import policies
from flstore.engine import EventLog, State, step
from flstore.policies.base import Policy, View
from flstore.policies.taxonomy import CLASS_OF
from flstore.types import (
    NO_CLIENT,
    Action,
    Deleted,
    Derive,
    Drop,
    Event,
    FunctionJoined,
    FunctionLost,
    Ingested,
    KeySet,
    Kind,
    Load,
    LoadFailed,
    Part,
    Prepare,
    Refused,
    Requested,
    Run,
    Unwant,
    Want,
)

LIVE = [name for name in policies.names() if not policies.get(name).needs_future]
"""Policies that can be made before the requests are known."""

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


def deleted(*keys: KeySet) -> Deleted:
    return Deleted(keys)


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
        self.share = policy.share
        self.wanted: dict[Hashable, set[Key]] = {}

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant | Derive]:
        for said in list(self._policy.decide(event, view)):
            if isinstance(said, Derive):
                yield said
                continue
            mine = self.wanted.setdefault(said.owner, set())
            if isinstance(said, Want):
                there = view.size(said.keys) > 0  # what does not exist cannot be wanted
                mine |= {key for key, exists in zip(keys_of(said.keys), there.tolist(), strict=True) if exists}
            else:
                mine -= set(keys_of(said.keys)) if said.keys is not None else set(mine)
            yield said


class Driver:
    """An engine under test, with its log and with books to compare it with."""

    def __init__(self, policy: Policy, initial: Iterable[Ingested] = (), replicas: int = 0) -> None:
        self.policy = _Books(policy)
        self.log = EventLog({"policy": policy.name, "replicas": replicas}, list(initial))
        self.state: State = self.log.start()
        self.exists: dict[Key, int] = {
            k: s for e in self.log.initial for k, s in zip(keys_of(e.keys), e.sizes, strict=True)
        }
        self.functions: dict[int, dict[Key, int]] = {}  # with the generation of the load
        self.parts: dict[tuple[int, Key], Part | None] = {}  # which part of an object the last load was of
        self.moves: list[Load | Drop] = []
        self.pending: list[Load] = []
        self.failed: set[Key] = set()
        self.gone: set[Key] = set()  # deleted, and not ingested again

    def apply(self, event: Event) -> list[Action]:
        """One event through the engine, the log and the books."""
        safe = self._safe_from(event.function) if isinstance(event, FunctionLost) else set()
        self._before(event)
        actions = step(self.state, self.policy, event)
        lost_anyway = safe - {key for held in self.state.holdings().values() for key in _plain(held)}
        assert not lost_anyway, "a copy was there, and was not used"
        for action in actions:
            if isinstance(action, Prepare):
                assert self.state.holds(action.function, action.keys).all(), "it cannot be derived there"
        self.log.append(event, actions)
        for action in actions:
            keys = set(keys_of(action.keys)) if isinstance(action, Load | Drop) else set()
            if isinstance(action, Load):
                self.functions[action.function] |= dict.fromkeys(keys, action.generation)
                self.parts.update(((action.function, key), action.part) for key in keys)
                self.failed -= keys
                self.pending.append(action)
            elif isinstance(action, Drop):
                self._forget(action.function, keys, action.generation)
            if isinstance(action, Load | Drop):
                self.moves.append(action)
        return actions

    def _safe_from(self, lost: int) -> set[Key]:
        """Keys that other functions hold, whatever becomes of this one."""
        return {key for f, held in self.functions.items() if f != lost for key in held if not self.part(f, key)}

    def part(self, function: int, key: Key) -> Part | None:
        """The part of an object that a function holds; None for all of it."""
        return self.parts.get((function, key))

    def size(self, function: int, key: Key) -> int:
        """Bytes of what a function holds of an object."""
        part = self.part(function, key)
        return self.exists[key] if part is None else -(-self.exists[key] // part.of)

    def _before(self, event: Event) -> None:
        match event:
            case Ingested(keys, sizes):
                self.exists.update(zip(keys_of(keys), sizes.tolist(), strict=True))
                self.gone.difference_update(keys_of(keys))
            case Deleted(key_sets):
                gone = {key for keys in key_sets for key in keys_of(keys)} & self.exists.keys()
                self.gone |= gone
                self.failed -= gone
                self.exists = {key: size for key, size in self.exists.items() if key not in gone}
                for wanted in self.policy.wanted.values():
                    wanted -= gone
            case FunctionJoined(function, _, _, holds):
                self.functions[function] = {key: 0 for keys, _ in holds for key in keys_of(keys)}
                self.parts = {at: part for at, part in self.parts.items() if at[0] != function}
            case FunctionLost(function, incarnation):
                known = self.state.functions.get(function)
                if known is not None and (not incarnation or incarnation == known.incarnation):
                    del self.functions[function]
            case LoadFailed(function, keys, _, generation):
                self.failed |= self._forget(function, keys_of(keys), generation)

    def _forget(self, function: int, keys: Iterable[Key], generation: int) -> set[Key]:
        """What a function forgets: not what it was told to load later on."""
        held = self.functions.get(function, {})
        gone = {key for key in keys if held.get(key, generation + 1) <= generation}
        for key in gone:
            del held[key]
        return gone

    def wanted(self) -> set[Key]:
        return set().union(*self.policy.wanted.values())

    def check(self) -> None:
        """Everything that must hold between any two events."""
        holdings = {f: _plain(held) for f, held in self.state.holdings().items()}
        assert holdings == {f: set(held) for f, held in self.functions.items()}
        for f, known in self.state.functions.items():
            assert known.used_bytes == sum(self.size(f, key) for key in self.functions[f])
            assert known.used_bytes <= known.capacity_bytes
        held = [key for keys in self.functions.values() for key in keys]
        in_parts = self._check_parts()
        self._check_copies(Counter(key for key in held if key not in in_parts))
        wanted = self.wanted()
        assert set(held) <= wanted, "held, and wanted by nobody"
        waiting = {
            (*w.slot, int(self.state.tables[w.slot[0], w.slot[1]][w.slot[2]].clients[row]))
            for w in self.state.waiting
            for row in w.rows.tolist()
        }
        assert wanted - set(held) <= waiting | self.failed
        for (job, kind, round), table in self.state.slots():
            owners = [
                sum((job, kind, round, c) in keys for keys in self.policy.wanted.values())
                for c in table.clients.tolist()
            ]
            assert table.wants.tolist() == owners
        self._check_index()

    def _check_index(self) -> None:
        """The state knows what exists, and nothing else; all that refers to rows refers to such."""
        state = self.state
        there = {(*slot, c) for slot, table in state.slots() for c in table.clients.tolist()}
        assert there == set(self.exists)
        slots = {slot for slot, _ in state.slots()}
        assert {(job, kind): sorted(tables) for (job, kind), tables in state.tables.items()} == state.rounds
        assert all(state.rounds.values())
        assert all(len(table.clients) for _, table in state.slots())
        assert not (state.copied.keys() | state.short.keys() | state.bereft.keys()) - slots
        wants = Counter(
            (*slot, row) for mine in state.ledger._rows.values() for slot, rows in mine.items() for row in rows.tolist()
        )
        counted = {(*slot, i): n for slot, t in state.slots() for i, n in enumerate(t.wants.tolist()) if n}
        assert wants == counted
        for (job, client), chain in state._chains.items():
            assert chain == sorted(r for j, k, r, c in there if (j, k, c) == (job, Kind.UPDATE, client))
            assert chain
            assert client in state._chained[job]

    def _check_parts(self) -> set[Key]:
        """What is held in parts is held in all of them, each on a function of its own, and nowhere whole."""
        found: dict[Key, dict[int, Part | None]] = {}
        for f, keys in self.functions.items():
            for key in keys:
                found.setdefault(key, {})[f] = self.part(f, key)
        for key, at in found.items():
            parts = [part for part in at.values() if part is not None]
            functions = self.state.striped.get(key[:3])
            assert (functions is not None) == bool(parts)
            if functions is not None:
                table = self.state.table(key[:3])
                assert table is not None
                cut = {part.cut for part in parts}
                assert (len(functions), table.parts, cut) == (len(set(functions)), len(functions), {table.cut})
                assert at == {f: Part(i, table.parts, table.cut) for i, f in enumerate(functions)}
        for slot, functions in self.state.striped.items():
            assert any(key[:3] == slot for key in found), "in parts, and nothing of it is held"
            assert not any(f in functions for f, known in self.state.functions.items() if known.leaving)
        return {key for key, at in found.items() if any(at.values())}

    def _check_copies(self, held: Counter[Key]) -> None:
        leaving = {f for f, known in self.state.functions.items() if known.leaving}
        extra = sum(self.exists[key] * (n - 1) for key, n in held.items())
        assert sum(known.copy_bytes for known in self.state.functions.values()) == extra
        for key, n in held.items():
            slot = (key[0], key[1], key[2])
            wanted = self.state.copies_wanted(slot)
            assert n <= 1 + wanted + len(leaving)
            here = {f for f, keys in self.functions.items() if key in keys}
            staying = len(self.state.functions) - len(leaving)
            if len(here - leaving) < min(1 + wanted, staying) and slot not in self.state.bereft:
                roomy = [f for f, s in self.state.functions.items() if s.free_bytes >= self.exists[key]]
                assert set(roomy) <= here | leaving, "a copy is lacking, and there is room"
                assert slot in self.state.short


def _plain(held: Mapping[tuple[int, Kind, int], np.ndarray]) -> set[Key]:
    return {(*slot, c) for slot, clients in held.items() for c in clients.tolist()}


class Scripted(Driver):
    """A driver of a script, with functions of these capacities and rounds that nobody wants yet."""

    def __init__(
        self, script: Mapping[int, Iterable[Want | Unwant]], *capacities: int, ingests: Iterable[Ingested]
    ) -> None:
        super().__init__(Script(script))
        for function, capacity in enumerate(capacities):
            self.apply(FunctionJoined(function, capacity, "first"))
        for event in ingests:
            self.apply(event)

    def then(self, event: Event) -> list[Action]:
        """Apply, and check everything."""
        actions = self.apply(event)
        self.check()
        return actions

    def ask(self, number: int) -> list[Action]:
        """The request at which the script says something; it reads nothing."""
        return self.then(requested(number))
