"""P4: metadata and hyperparameters of the recent rounds (section 4.4; Table 3, third block)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import ClassVar

from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy, View
from flstore.types import Deleted, Event, FunctionJoined, Ingested, KeySet, Kind, Unwant, Want


class P4(Policy):
    """Keep the metadata of the last rounds, from the start and without being asked.

    Parameters
    ----------
    rounds : int, default 10
        How many rounds (R in the paper).
    owner : hashable, default "p4"
        Distinguishes its wants from those of another instance beside it.
    """

    name: ClassVar[str] = "p4"

    def __init__(self, rounds: int = 10, owner: Hashable = "p4") -> None:
        if rounds < 1:
            raise InvalidParameterError(f"rounds must be at least 1, got {rounds}")
        self.rounds = rounds
        self._owner = owner
        self._kept: dict[int, list[int]] = {}

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant]:
        """Want the newest rounds, let go of those that fell out of the window."""
        if isinstance(event, Ingested) and event.keys.kind is Kind.METADATA:
            yield from self.follow(event.keys.job, view, event.keys)
        elif isinstance(event, FunctionJoined):
            for job in view.jobs(Kind.METADATA):
                yield from self.follow(job, view)
        elif isinstance(event, Deleted):
            for job in dict.fromkeys(keys.job for keys in event.keys if keys.kind is Kind.METADATA):
                yield from self.follow(job, view)

    def release(self) -> list[Unwant]:
        """Want nothing any more, as if nothing had happened yet."""
        owners = [(self._owner, job) for job in self._kept]
        self._kept = {}
        return [Unwant(owner) for owner in owners]

    def follow(self, job: int, view: View, arrived: KeySet | None = None) -> Iterable[Want | Unwant]:
        """Want the last rounds of `job`; `arrived` is what just came in."""
        owner = (self._owner, job)
        rounds = view.newest(job, self.rounds, Kind.METADATA)
        before = self._kept.get(job, [])
        self._kept[job] = rounds
        if not rounds:
            del self._kept[job]
        for round in before:
            if round not in rounds:
                yield Unwant(owner, KeySet(job, Kind.METADATA, round, view.participants(job, round, Kind.METADATA)))
        for round in rounds:
            if round not in before or (arrived is not None and arrived.rounds == round):
                yield Want(
                    owner, KeySet(job, Kind.METADATA, round, view.participants(job, round, Kind.METADATA)), priority=2
                )
