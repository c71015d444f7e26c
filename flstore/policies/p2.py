"""P2: all client updates of a round (section 4.4; Table 3, first block)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy, View
from flstore.types import NO_CLIENT, Deleted, Derive, Event, Ingested, KeySet, Kind, Requested, Unwant, Want


@dataclass(slots=True)
class _Cursor:
    """Where one workload of one job is, and the rounds that it wants because of that."""

    round: int
    reads: set[tuple[Kind, int]] = field(default_factory=set)
    rounds: set[int] = field(default_factory=set)


class P2(Policy):
    """Keep the requested round, the next one and the latest; forget the rounds before.

    One cursor for each (job, workload), armed by its first request. It wants every round from its own to the latest
    while these are at most `window` apart (a workload that lags would otherwise load each round twice), else its own,
    the next and the latest. The paper names the requested round, the next and the latest; with a lag of 0 that is the
    same.

    What a workload derives from a round (a Gram matrix, say) is to be ready for each round that its cursor wants.

    A request that also reads an aggregate (the model that its round started from) makes the cursor want that
    aggregate for each of its rounds.

    Parameters
    ----------
    window : int, default 10
        The largest distance, in rounds, over which everything up to the latest round is kept.
    """

    name: ClassVar[str] = "p2"

    def __init__(self, window: int = 10) -> None:
        if window < 1:
            raise InvalidParameterError(f"window must be at least 1 round, got {window}")
        self.window = window
        self._cursors: dict[tuple[int, str], _Cursor] = {}

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant | Derive]:
        """Move the cursor of the workload that asked; let armed cursors take in what arrives."""
        if isinstance(event, Requested):
            yield from self._requested(event, view)
        elif isinstance(event, Ingested) and event.keys.kind is not Kind.METADATA:
            for owner, cursor in self._cursors.items():
                if owner[0] == event.keys.job:
                    yield from self._move(owner, cursor, view, arrived=event.keys)
        elif isinstance(event, Deleted):
            jobs = {keys.job for keys in event.keys if keys.kind is not Kind.METADATA}
            for owner, cursor in list(self._cursors.items()):
                if owner[0] in jobs:
                    yield from self._move(owner, cursor, view)
                    if not cursor.rounds and view.latest(owner[0]) is None:
                        del self._cursors[owner]

    def release(self) -> list[Unwant]:
        """Want nothing any more, as if nothing had happened yet."""
        owners = list(self._cursors)
        self._cursors = {}
        return [Unwant((self.name, *owner)) for owner in owners]

    def _requested(self, event: Requested, view: View) -> Iterable[Want | Unwant | Derive]:
        rounds = [r for keys in event.keys if keys.kind is Kind.UPDATE for r, _ in keys.by_round()]
        if not rounds:
            return
        at = max(rounds)
        owner = (event.job, event.workload)
        cursor = self._cursors.setdefault(owner, _Cursor(at))
        cursor.round = at
        reads = {(keys.kind, r - at) for keys in event.keys if keys.kind is Kind.AGGREGATE for r, _ in keys.by_round()}
        reads_more = not reads <= cursor.reads
        cursor.reads |= reads
        yield from self._move(owner, cursor, view, again=reads_more)

    def _move(
        self, owner: tuple[int, str], cursor: _Cursor, view: View, arrived: KeySet | None = None, again: bool = False
    ) -> Iterable[Want | Unwant | Derive]:
        job, name = owner[0], (self.name, *owner)
        rounds = self._rounds(job, cursor.round, view)
        for round in sorted(cursor.rounds - rounds):
            for keys in self._keys(job, round, cursor, view):
                if keys.kind is Kind.UPDATE or not self._shared(keys, rounds, cursor):
                    yield Unwant(name, keys)
        for round in sorted(rounds):
            if again or round not in cursor.rounds or (arrived is not None and self._concerns(arrived, round, cursor)):
                for keys in self._keys(job, round, cursor, view):
                    yield Want(name, keys, priority=self._priority(cursor, round))
                    if keys.kind is Kind.UPDATE:
                        yield Derive(owner[1], keys)
        cursor.rounds = rounds

    def _rounds(self, job: int, at: int, view: View) -> set[int]:
        latest = view.latest(job)
        if latest is None:
            return set()
        if latest - at <= self.window:
            return set(view.rounds(job, at, latest))
        here, following = view.rounds(job, at, at), view.next_round(job, at)
        return {latest, *here} | ({following} if following is not None else set())

    def _keys(self, job: int, round: int, cursor: _Cursor, view: View) -> list[KeySet]:
        clients = view.participants(job, round)
        keys = [KeySet(job, Kind.UPDATE, round, clients)] if len(clients) else []
        for kind, offset in sorted(cursor.reads):
            if view.aggregate(job, round + offset):
                keys.append(KeySet.of_client(job, kind, NO_CLIENT, [round + offset]))
        return keys

    @staticmethod
    def _shared(keys: KeySet, rounds: set[int], cursor: _Cursor) -> bool:
        """Whether this aggregate is read for one of `rounds` too."""
        return any(r - offset in rounds for r, _ in keys.by_round() for _, offset in cursor.reads)

    @staticmethod
    def _concerns(arrived: KeySet, round: int, cursor: _Cursor) -> bool:
        if arrived.kind is Kind.UPDATE:
            return arrived.rounds == round
        return any(r - offset == round for r, _ in arrived.by_round() for _, offset in cursor.reads)

    @staticmethod
    def _priority(cursor: _Cursor, round: int) -> int:
        return 3 if round == cursor.round else 1
