"""P3: one client's updates across rounds (section 4.4; Table 3, second block)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeAlias

from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy, View
from flstore.types import Deleted, Event, Group, Ingested, KeySet, Kind, Requested, Unwant, Want

_Owner: TypeAlias = tuple[int, str, int]


class P3(Policy):
    """Keep the requested update of a client and the one of its next participation.

    One cursor for each (job, workload, client). 'Next' is the next round in which the client takes part, known from
    the past or awaited until it is ingested; the next round number would nearly always be one without that client (4
    hits in 64 instead of 63). The paper's text also keeps the previous round, and its Figure 6 evicts it; the figure
    is followed.

    A cursor whose round was deleted stays where it was, so that the next participation is still awaited.

    Parameters
    ----------
    cursors : int, default 10000
        How many clients are followed; the one that was asked for longest ago is forgotten first.
    """

    name: ClassVar[str] = "p3"

    def __init__(self, cursors: int = 10_000) -> None:
        if cursors < 1:
            raise InvalidParameterError(f"cursors must be at least 1, got {cursors}")
        self.cursors = cursors
        self._at: dict[_Owner, int] = {}
        self._wanted: dict[_Owner, tuple[int, ...]] = {}
        self._by_client: dict[tuple[int, int], list[_Owner]] = {}
        self._adrift: set[_Owner] = set()  # whose own round was deleted

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant]:
        """Move the cursors of the clients that were asked for; take in the next participation when it arrives."""
        if isinstance(event, Requested):
            newest: dict[int, int] = {}
            for keys in event.keys:
                if keys.kind is Kind.UPDATE:
                    for round, client in keys.pairs():
                        newest[client] = max(round, newest.get(client, round))
            for client, round in newest.items():
                yield from self._move((event.job, event.workload, client), round, view)
        elif isinstance(event, Ingested) and event.keys.kind is Kind.UPDATE and self._at:
            for _, client in event.keys.pairs():
                for owner in self._by_client.get((event.keys.job, client), ()):
                    yield from self._want(owner, view)
        elif isinstance(event, Deleted) and self._at:
            for keys in event.keys:
                if keys.kind is Kind.UPDATE:
                    yield from self._forget(keys, view)

    def release(self) -> list[Unwant]:
        """Want nothing any more, as if nothing had happened yet."""
        owners = list(self._at)
        self._at, self._wanted, self._by_client, self._adrift = {}, {}, {}, set()
        return [Unwant((self.name, *owner)) for owner in owners]

    def _forget(self, keys: KeySet, view: View) -> Iterable[Want | Unwant]:
        for round, client in keys.pairs():
            for owner in self._by_client.get((keys.job, client), ()):
                if self._at[owner] == round:
                    self._adrift.add(owner)
                if round in self._wanted[owner]:
                    self._wanted[owner] = tuple(r for r in self._wanted[owner] if r != round)
                    yield from self._want(owner, view)

    def _move(self, owner: _Owner, round: int, view: View) -> Iterable[Want | Unwant]:
        if owner not in self._at:
            self._by_client.setdefault((owner[0], owner[2]), []).append(owner)
        self._at.pop(owner, None)
        self._at[owner] = round
        self._adrift.discard(owner)
        yield from self._want(owner, view)
        if len(self._at) > self.cursors:
            oldest = next(iter(self._at))
            del self._at[oldest], self._wanted[oldest]
            self._adrift.discard(oldest)
            followers = self._by_client[oldest[0], oldest[2]]
            followers.remove(oldest)
            if not followers:
                del self._by_client[oldest[0], oldest[2]]
            yield Unwant((self.name, *oldest))

    def _want(self, owner: _Owner, view: View) -> Iterable[Want | Unwant]:
        job, _, client = owner
        at = self._at[owner]
        following = view.next_participation(job, client, at)
        if owner in self._adrift and view.next_participation(job, client, at - 1) == at:
            self._adrift.discard(owner)  # ingested again
        here = () if owner in self._adrift else (at,)
        rounds = here if following is None else (*here, following)
        before = self._wanted.get(owner, ())
        self._wanted[owner] = rounds
        name = (self.name, *owner)
        gone = [r for r in before if r not in rounds]
        if gone:
            yield Unwant(name, KeySet.of_client(job, Kind.UPDATE, client, gone))
        new = [r for r in rounds if r not in before]
        if new:
            yield Want(name, KeySet.of_client(job, Kind.UPDATE, client, new), Group.CLIENT, priority=2)
