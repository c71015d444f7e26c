"""P4: metadata and hyperparameters of the recent rounds (section 4.4; Table 3, third block)."""

from __future__ import annotations

from collections.abc import Iterable
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
    """

    name: ClassVar[str] = "p4"

    def __init__(self, rounds: int = 10) -> None:
        if rounds < 1:
            raise InvalidParameterError(f"rounds must be at least 1, got {rounds}")
        self.rounds = rounds
        self._kept: dict[int, list[int]] = {}

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant]:
        """Want the newest rounds, let go of those that fell out of the window."""
        if isinstance(event, Ingested) and event.keys.kind is Kind.METADATA:
            yield from self._keep(event.keys.job, view, event.keys)
        elif isinstance(event, FunctionJoined):
            for job in view.jobs(Kind.METADATA):
                yield from self._keep(job, view, None)
        elif isinstance(event, Deleted):
            for job in dict.fromkeys(keys.job for keys in event.keys if keys.kind is Kind.METADATA):
                yield from self._keep(job, view, None)

    def _keep(self, job: int, view: View, arrived: KeySet | None) -> Iterable[Want | Unwant]:
        owner = (self.name, job)
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
