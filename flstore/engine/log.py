"""The event log: what the engine was told, in order, with a digest of what it decided.

Folding a log through :func:`flstore.engine.step` again must give the same digests; that is how a live run is checked
against the rules, and how the simulator is known to decide as the live store does.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import msgpack
import xxhash

from flstore.engine.core import step
from flstore.engine.state import State
from flstore.engine.values import Plain, action_values, event_of, event_values, plain_keys
from flstore.errors import InvalidParameterError, PolicyError
from flstore.types import (
    Action,
    Event,
    Ingested,
    KeySet,
    Loaded,
    LoadFailed,
    Refused,
    Requested,
)  # fmt: skip

if TYPE_CHECKING:
    from flstore.policies.base import Policy

FORMAT = 1
REMEMBERED, REMEMBERED_KEYS = 32, 2000
"""How many tuples of key sets are remembered as plain values, and how many keys each may name."""


def digest(event: Event, actions: Iterable[Action], before: str = "", plain: Plain = plain_keys) -> str:
    """16 hex digits over an event, the actions that it led to, and the digest before; the same on every machine.

    Hit counts are no part of it: they depend on when loads were done, decisions do not.
    """
    return _digest(msgpack.packb(event_values(event, plain)), actions, before, plain)


def _digest(packed: bytes, actions: Iterable[Action], before: str, plain: Plain) -> str:
    """Of the array of all three, as msgpack writes it."""
    body = msgpack.packb(before) + packed + msgpack.packb([action_values(a, plain) for a in actions])
    return xxhash.xxh3_64_hexdigest(b"\x93" + body)


class _Chain:
    """Digests that each contain the one of the decision before; reports on loads stand beside the chain."""

    def __init__(self, last: str = "") -> None:
        self._last = last
        self._known: dict[int, tuple[tuple[Any, ...], list[Any]]] = {}

    def next(self, event: Event, actions: Iterable[Action], packed: bytes | None = None) -> str:
        """The digest of the next event, whose values may have been packed already."""
        packed = msgpack.packb(event_values(event, self.plain)) if packed is None else packed
        if isinstance(event, Loaded | LoadFailed):
            return _digest(packed, actions, "", plain_keys)
        self._last = _digest(packed, actions, self._last, self.plain)
        return self._last

    def plain(self, keys: tuple[Any, ...]) -> list[Any]:
        """Remembered for the very tuples that were last asked for, because the actions on a request repeat them."""
        found = self._known.get(id(keys))
        if found is None or found[0] is not keys:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = keys, plain_keys(keys)
            if sum(len(k if isinstance(k, KeySet) else k[1]) for k in keys) <= REMEMBERED_KEYS:
                self._known[id(keys)] = found
        return found[1]


@dataclass(frozen=True, slots=True)
class Entry:
    """One event as it was applied, the digest of its actions, and what the policy did wrong or did not get."""

    event: Event
    digest: str
    faults: tuple[str, ...] = field(default=(), compare=False)


class Entries(Sequence[Entry]):
    """The entries of a log, kept as bytes: a fraction of the memory, and nothing for the garbage collector to visit.

    An entry is made when it is asked for. What a request reads is kept once for all requests that read the same.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._rows: list[tuple[str, bytes, bytes, str, tuple[str, ...]]] = []
        self._reads: dict[bytes, bytes] = {}
        for entry in entries:
            self.append(self.pack(entry.event), entry.digest, entry.faults)

    def pack(self, event: Event, plain: Plain = plain_keys) -> tuple[str, bytes, bytes]:
        """The name of an event, and what msgpack writes of its values: the last apart, which many requests share."""
        *first, last = event_values(event, plain)
        head, tail = msgpack.packb(first), msgpack.packb(last)
        head = bytes([head[0] + 1]) + head[1:]  # an array of one more
        return first[0], head, self._reads.setdefault(tail, tail) if isinstance(event, Requested) else tail

    def append(self, packed: tuple[str, bytes, bytes], digest: str, faults: tuple[str, ...]) -> None:
        """Add an entry whose event was packed here."""
        self._rows.append((*packed, digest, faults))

    def with_faults(self) -> list[tuple[int, Entry]]:
        """Positions and entries at which the policy did something wrong, or did not get what it wanted."""
        return [(i, _entry(*row)) for i, row in enumerate(self._rows) if row[-1]]

    def kinds(self, start: int = 0) -> list[str]:
        """The name of each event from a position on, as :func:`flstore.engine.values.event_values` has it."""
        return [row[0] for row in self._rows[start:]]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Entry: ...

    @overload
    def __getitem__(self, at: slice) -> list[Entry]: ...

    def __getitem__(self, at: int | slice) -> Entry | list[Entry]:
        if isinstance(at, slice):
            return [_entry(*row) for row in self._rows[at]]
        return _entry(*self._rows[at])

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Entries) else NotImplemented


def _entry(_kind: str, head: bytes, tail: bytes, digest: str, faults: tuple[str, ...]) -> Entry:
    return Entry(event_of(msgpack.unpackb(head + tail)), digest, faults)


class EventLog:
    """All events of one engine since it started.

    Parameters
    ----------
    header : dict
        Versions, policy name and parameters, seed: what is needed to build the same engine again.
    initial : list of Ingested
        What existed before the first event (a root that was opened again).
    entries : iterable of Entry
        The events, where there are some already.
    """

    def __init__(
        self, header: dict[str, Any] | None = None, initial: list[Ingested] | None = None, entries: Iterable[Entry] = ()
    ) -> None:
        self.header: dict[str, Any] = {} if header is None else header
        self.initial: list[Ingested] = [] if initial is None else initial
        self.entries = Entries(entries)
        decided = self._decided()
        self._chain = _Chain(self.entries[decided[-1]].digest if decided else "")

    def append(self, event: Event, actions: Iterable[Action], error: PolicyError | None = None) -> None:
        """Add an applied event; `error` when the policy failed on it and it was applied without."""
        said = [str(error)] if error is not None else []
        said += [f"refused {_short(a.keys)}: {a.reason}" for a in actions if isinstance(a, Refused)]
        packed = self.entries.pack(event, self._chain.plain)
        self.entries.append(packed, self._chain.next(event, actions, packed[1] + packed[2]), tuple(said))

    def faults(self) -> list[tuple[int, Event, str]]:
        """What the policy did wrong, and what it wanted and did not get: position, event, and what was said about it.

        A policy that raised, or returned what is no want; objects that do not exist; more than there is room for.
        """
        found = self.entries.with_faults()
        return [(i, entry.event, said) for i, entry in found for said in entry.faults]

    def __repr__(self) -> str:
        from flstore.display.trace import log_text

        return log_text(self)

    def _repr_html_(self) -> str:
        from flstore.display.trace import log_html

        return log_html(self)

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
        return [self.entries[i] for i in self._decided()]

    def _decided(self) -> list[int]:
        return [i for i, kind in enumerate(self.entries.kinds()) if kind not in ("loaded", "load_failed")]

    def save(self, path: str | Path) -> None:
        """Write as JSON lines: the header, then the initial state, then one line an event."""
        lines = [{"format": FORMAT, **self.header}, [event_values(e) for e in self.initial]]
        with open(path, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line) + "\n")
            for entry in self.entries:
                faults = {"faults": entry.faults} if entry.faults else {}
                file.write(json.dumps({"event": event_values(entry.event), "digest": entry.digest, **faults}) + "\n")

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
            header, initial = dict(lines[0]), [event_of(v) for v in lines[1]]
            entries = [Entry(event_of(v["event"]), v["digest"], tuple(v.get("faults", ()))) for v in lines[2:]]
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


def _short(keys: KeySet) -> str:
    """Names objects by their interned ids, the first few of many."""
    named = [f"{r}" if c < 0 else f"{r}/{c}" for r, c in itertools.islice(keys.pairs(), 5)]
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"{keys.kind.name.lower()} {', '.join(named)}{more} (round/client) of job {keys.job}"
