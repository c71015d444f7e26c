"""P1: single client updates or the aggregated model (section 4.4)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import ClassVar

from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy, View
from flstore.types import NO_CLIENT, Deleted, Event, FunctionJoined, Ingested, KeySet, Kind, Requested, Unwant, Want


class P1(Policy):
    """Keep the newest aggregate, from the start, and the last updates that were asked for.

    Parameters
    ----------
    last : int, default 10
        How many requested updates (or older aggregates) stay.
    owner : hashable, default "p1"
        Distinguishes its wants from those of another instance beside it.
    """

    name: ClassVar[str] = "p1"

    def __init__(self, last: int = 10, owner: Hashable = "p1") -> None:
        if last < 0:
            raise InvalidParameterError(f"last must not be negative, got {last}")
        self.last = last
        self._owner = owner
        self._newest: dict[int, int] = {}
        self._recent: dict[tuple[int, Kind, int, int], None] = {}

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant]:
        """Follow the newest aggregate; remember what was asked for."""
        if isinstance(event, Ingested) and event.keys.kind is Kind.AGGREGATE:
            yield from self.follow(event.keys.job, view)
        elif isinstance(event, FunctionJoined):
            for job in view.jobs(Kind.AGGREGATE):
                yield from self.follow(job, view)
        elif isinstance(event, Requested):
            yield from self._remember(event)
        elif isinstance(event, Deleted):
            for keys in event.keys:
                for round, client in keys.pairs():
                    self._recent.pop((keys.job, keys.kind, round, client), None)
            for job in dict.fromkeys(keys.job for keys in event.keys if keys.kind is Kind.AGGREGATE):
                yield from self.follow(job, view)

    def release(self) -> list[Unwant]:
        """Want nothing any more, as if nothing had happened yet."""
        owners: list[Hashable] = [(self._owner, "recent"), *((self._owner, "newest", job) for job in self._newest)]
        self._newest, self._recent = {}, {}
        return [Unwant(owner) for owner in owners]

    def follow(self, job: int, view: View) -> Iterable[Want | Unwant]:
        """Want the newest aggregate of `job`."""
        latest, known = view.latest(job, Kind.AGGREGATE), self._newest.get(job)
        if latest is None:
            self._newest.pop(job, None)
            return
        owner = (self._owner, "newest", job)
        yield Want(owner, KeySet.of_client(job, Kind.AGGREGATE, NO_CLIENT, [latest]), priority=2)
        if known is not None and known != latest:
            yield Unwant(owner, KeySet.of_client(job, Kind.AGGREGATE, NO_CLIENT, [known]))
        self._newest[job] = latest

    def _remember(self, event: Requested) -> Iterable[Want | Unwant]:
        owner = (self._owner, "recent")
        for keys in event.keys:
            for round, client in keys.pairs():
                key = (keys.job, keys.kind, round, client)
                self._recent.pop(key, None)
                self._recent[key] = None
            yield Want(owner, keys, priority=2)
        while len(self._recent) > self.last:
            job, kind, round, client = next(iter(self._recent))
            del self._recent[job, kind, round, client]
            yield Unwant(owner, KeySet.of_client(job, kind, client, [round]))
