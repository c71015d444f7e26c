"""The event log: what the engine was told, in order, with a digest of what it decided.

Folding a log through :func:`flstore.engine.step` again must give the same digests; that is how a live run is checked
against the rules, and how the simulator is known to decide as the live store does.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgpack
import numpy as np
import xxhash

from flstore.engine.core import step
from flstore.engine.state import State
from flstore.errors import InvalidParameterError, PolicyError
from flstore.types import (
    Action,
    Deleted,
    Demand,
    Drop,
    Event,
    Feedback,
    FunctionJoined,
    FunctionLeaving,
    FunctionLost,
    Ingested,
    KeySet,
    Kind,
    Load,
    Loaded,
    LoadFailed,
    PolicyClass,
    Prepare,
    Refused,
    Requested,
    Run,
)  # fmt: skip

if TYPE_CHECKING:
    from flstore.policies.base import Policy

FORMAT = 1
REMEMBERED, REMEMBERED_KEYS = 32, 2000
"""How many tuples of key sets are remembered as plain values, and how many keys each may name."""


Plain: TypeAlias = Callable[[tuple[Any, ...]], list[Any]]
"""From a tuple of key sets, or of pairs of a function and a key set, to plain values."""


def _plain(keys: tuple[Any, ...]) -> list[Any]:
    return [k.canonical() if isinstance(k, KeySet) else [k[0], k[1].canonical()] for k in keys]


def digest(event: Event, actions: Iterable[Action], before: str = "", plain: Plain = _plain) -> str:
    """16 hex digits over an event, the actions that it led to, and the digest before; the same on every machine.

    Hit counts are no part of it: they depend on when loads were done, decisions do not.
    """
    body = [before, _event_values(event, plain), [_action_values(a, plain) for a in actions]]
    return xxhash.xxh3_64_hexdigest(msgpack.packb(body))


class _Chain:
    """Digests that each contain the one of the decision before; reports on loads stand beside the chain."""

    def __init__(self, last: str = "") -> None:
        self._last = last
        self._known: dict[int, tuple[tuple[Any, ...], list[Any]]] = {}

    def next(self, event: Event, actions: Iterable[Action]) -> str:
        if isinstance(event, Loaded | LoadFailed):
            return digest(event, actions)
        self._last = digest(event, actions, self._last, self._plain)
        return self._last

    def _plain(self, keys: tuple[Any, ...]) -> list[Any]:
        """Remembered for the very tuples that were last asked for, because requests repeat them."""
        found = self._known.get(id(keys))
        if found is None or found[0] is not keys:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = keys, _plain(keys)
            if sum(len(k if isinstance(k, KeySet) else k[1]) for k in keys) <= REMEMBERED_KEYS:
                self._known[id(keys)] = found
        return found[1]


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as it was applied, the digest of its actions, and what the policy did wrong or did not get."""

    event: Event
    digest: str
    faults: tuple[str, ...] = field(default=(), compare=False)


@dataclass
class EventLog:
    """All events of one engine since it started.

    Parameters
    ----------
    header : dict
        Versions, policy name and parameters, seed: what is needed to build the same engine again.
    initial : list of Ingested
        What existed before the first event (a root that was opened again).
    """

    header: dict[str, Any] = field(default_factory=dict)
    initial: list[Ingested] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    _chain: _Chain = field(default_factory=_Chain, repr=False, compare=False)

    def __post_init__(self) -> None:
        if decisions := self.decisions():
            self._chain = _Chain(decisions[-1].digest)

    def append(self, event: Event, actions: Iterable[Action], error: PolicyError | None = None) -> None:
        """Add an applied event; `error` when the policy failed on it and it was applied without."""
        said = [str(error)] if error is not None else []
        said += [f"refused {_short(a.keys)}: {a.reason}" for a in actions if isinstance(a, Refused)]
        self.entries.append(Entry(event, self._chain.next(event, actions), tuple(said)))

    def faults(self) -> list[tuple[int, Event, str]]:
        """What the policy did wrong, and what it wanted and did not get: position, event, and what was said about it.

        A policy that raised, or returned what is no want; objects that do not exist; more than there is room for.
        """
        return [(i, entry.event, said) for i, entry in enumerate(self.entries) for said in entry.faults]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def start(self, *, instant: bool = False) -> State:
        """The state before the first event."""
        state = State(instant=instant, replicas=self.header.get("replicas", 0))
        for event in self.initial:
            state.register(event.keys, event.sizes)
        return state

    def decisions(self) -> list[Entry]:
        """The entries that a replay needs: functions, ingests and requests, without the reports on loads."""
        return [e for e in self.entries if not isinstance(e.event, Loaded | LoadFailed)]

    def save(self, path: str | Path) -> None:
        """Write as JSON lines: the header, then the initial state, then one line an event."""
        lines = [{"format": FORMAT, **self.header}, [_event_values(e) for e in self.initial]]
        with open(path, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line) + "\n")
            for entry in self.entries:
                faults = {"faults": entry.faults} if entry.faults else {}
                file.write(json.dumps({"event": _event_values(entry.event), "digest": entry.digest, **faults}) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> EventLog:
        """Read a log that :meth:`save` wrote.

        Raises
        ------
        InvalidParameterError
            The file is no event log of this format.
        """
        try:
            lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
            header, initial = dict(lines[0]), [_event(v) for v in lines[1]]
            entries = [Entry(_event(v["event"]), v["digest"], tuple(v.get("faults", ()))) for v in lines[2:]]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise InvalidParameterError(f"{path} is not an event log: {error!r}") from error
        if header.pop("format", None) != FORMAT:
            raise InvalidParameterError(f"{path} is an event log of another format; this version reads format {FORMAT}")
        return cls(header, [e for e in initial if isinstance(e, Ingested)], entries)


def fold(log: EventLog, policy: Policy, *, decisions_only: bool = False) -> tuple[State, list[int]]:
    """Apply a log to a fresh engine.

    Parameters
    ----------
    log : EventLog
        What to apply.
    policy : Policy
        A fresh policy of the same kind and parameters.
    decisions_only : bool
        Leave out the reports on loads: a run without failures must decide the same without them.

    Returns
    -------
    (State, list of int)
        The final state, and the positions (in the entries applied) whose digest differs.
    """
    state, chain = log.start(), _Chain()
    differing = []
    for i, entry in enumerate(log.decisions() if decisions_only else log.entries):
        try:
            actions: Iterable[Action] = step(state, policy, entry.event)
        except PolicyError as error:  # as it was live: the event counts, what the policy said does not
            actions = error.actions
        if chain.next(entry.event, actions) != entry.digest:
            differing.append(i)
    return state, differing


# --- events and actions as plain values -----------------------------------------------------------------------------


def _event_values(event: Event, plain: Plain = _plain) -> list[Any]:
    match event:
        case Ingested(keys, sizes):
            return ["ingested", keys.canonical(), sizes.tolist()]
        case Requested(request, job, workload, policy_class, round, client, keys):
            return ["requested", request, job, workload, str(policy_class), round, client, plain(keys)]
        case Loaded(function, keys, generation):
            return ["loaded", function, keys.canonical(), generation]
        case LoadFailed(function, keys, reason, generation):
            return ["load_failed", function, keys.canonical(), reason, generation]
        case FunctionJoined(function, capacity, incarnation, holds):
            return ["joined", function, capacity, incarnation, [[k.canonical(), s.tolist()] for k, s in holds]]
        case FunctionLost(function, incarnation):
            return ["lost", function, incarnation]
        case FunctionLeaving(function):
            return ["leaving", function]
        case Demand(keys, copies):
            return ["demand", keys.canonical(), copies]
        case Deleted(key_sets):
            return ["deleted", [k.canonical() for k in key_sets]]
        case Feedback(request, useful):
            return ["feedback", request, useful]
    raise TypeError(f"not an event: {event!r}")


def _event(values: list[Any]) -> Event:
    name, *rest = values
    match name:
        case "ingested":
            return Ingested(_key_set(rest[0]), np.asarray(rest[1], dtype=np.int64))
        case "requested":
            request, job, workload, policy_class, round, client, keys = rest
            parts = tuple(_key_set(k) for k in keys)
            return Requested(request, job, workload, PolicyClass(policy_class), round, client, parts)
        case "loaded":
            return Loaded(rest[0], _key_set(rest[1]), rest[2])
        case "load_failed":
            return LoadFailed(rest[0], _key_set(rest[1]), rest[2], rest[3])
        case "joined":
            holds = tuple((_key_set(k), np.asarray(s, dtype=np.int64)) for k, s in rest[3])
            return FunctionJoined(rest[0], rest[1], rest[2], holds)
        case "lost":
            return FunctionLost(*rest)
        case "leaving":
            return FunctionLeaving(*rest)
        case "demand":
            return Demand(_key_set(rest[0]), rest[1])
        case "deleted":
            return Deleted(tuple(_key_set(k) for k in rest[0]))
        case "feedback":
            return Feedback(*rest)
    raise ValueError(f"unknown event {name!r}")


def _short(keys: KeySet) -> str:
    """Names objects by their interned ids, the first few of many."""
    named = [f"{r}" if c < 0 else f"{r}/{c}" for r, c in itertools.islice(keys.pairs(), 5)]
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"{keys.kind.name.lower()} {', '.join(named)}{more} (round/client) of job {keys.job}"


def _key_set(values: list[Any]) -> KeySet:
    job, kind, rounds, clients = values

    def vector(axis: Any) -> Any:
        return np.asarray(axis, dtype=np.int64) if isinstance(axis, list | tuple) else axis

    return KeySet(job, Kind(kind), vector(rounds), vector(clients))


def _action_values(action: Action, plain: Plain = _plain) -> list[Any]:
    match action:
        case Load(function, keys, source, size, generation, priority, part):
            of_part = [] if part is None else [[part.number, part.of, str(part.cut)]]
            return ["load", function, keys.canonical(), str(source), size, generation, priority, *of_part]
        case Drop(function, keys, generation):
            return ["drop", function, keys.canonical(), generation]
        case Run(request, function, held, missing, _):
            return ["run", request, function, plain(held), plain(missing)]
        case Refused(keys, reason):
            return ["refused", keys.canonical(), reason]
        case Prepare(function, keys, what):
            return ["prepare", function, keys.canonical(), what]
    raise TypeError(f"not an action: {action!r}")
