"""Keeps the newest rounds only: deletes older ones in the background while training goes on."""

from __future__ import annotations

import contextlib
import threading
import warnings

from flstore.catalogue import Catalogue
from flstore.deletion import Deletions
from flstore.errors import InvalidParameterError, InvalidUpdateError
from flstore.ingest import Arrival
from flstore.persistence.waiting import Doomed
from flstore.types import Kind


def check_retention(retention: int | None) -> None:
    """Raise InvalidParameterError for what is no number of rounds."""
    if retention is not None and (isinstance(retention, bool) or not isinstance(retention, int) or retention < 1):
        raise InvalidParameterError(
            f"retention is a number of rounds of at least 1, or None to keep all; got {retention!r}"
        )


class Retention:
    """The newest `rounds` rounds with updates stay, and the aggregate that the oldest of them started from.

    A thread lives only while there is something to delete. What fails is said once, as a RuntimeWarning, and tried
    again when the next round comes.

    Parameters
    ----------
    rounds : int
        How many rounds stay.
    catalogue : Catalogue
        What exists.
    deletions : Deletions
        By which rounds are deleted.
    """

    def __init__(self, rounds: int, catalogue: Catalogue, deletions: Deletions) -> None:
        self.rounds = rounds
        self._catalogue, self._deletions = catalogue, deletions
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._again = self._warned = False
        self._seen: int | None = None
        self._forgotten: Doomed | None = None

    def admit(self, arrival: Arrival) -> None:
        """Raise InvalidUpdateError for a round that was deleted, or is about to be. Called with the ingest lock held.

        The model that the oldest round started from may come late.
        """
        oldest = self._oldest()
        if oldest is None:
            late = False
        else:
            is_model = not arrival.metadata and all(key.kind is Kind.AGGREGATE for key in arrival.buffers)
            late = arrival.round < oldest and not (is_model and arrival.round == oldest - 1)
        if late or (arrival.round in self._deletions.unfinished and arrival.round != (oldest or 0) - 1):
            known = self._catalogue.rounds()
            shown = f"{known[-self.rounds :][0]} to {known[-1]}" if known else "none"
            raise InvalidUpdateError(
                f"round {arrival.round} comes too late: with retention={self.rounds} the newest {self.rounds} rounds "
                f"are kept (now {shown}) and older ones deleted; a larger retention keeps more. Nothing was kept"
            )

    def make_room(self, coming: Arrival) -> None:
        """Forget what a round that comes pushes out, and begin to erase it before that round is written.

        Called with the ingest lock held. Otherwise all of the round would be on disk before anything was deleted,
        because whoever writes it holds that lock.
        """
        if not any(key.kind is Kind.UPDATE for key in coming.buffers):
            return
        oldest = self._oldest(coming.round)
        deletions = self._deletions
        # Whoever deletes holds this lock and may be waiting for the one that we hold: then it is deleted afterwards.
        if oldest is None or oldest == self._seen or not deletions.alone.acquire(blocking=False):
            return
        try:
            doomed = self._too_old(coming.round)
            if doomed is None or not doomed.rounds:
                return
            deletions.unfinished = frozenset(doomed.rounds)
            deletions.forget(doomed)
            self._forgotten = doomed
        finally:
            deletions.alone.release()
        self._begin(oldest)

    def start(self) -> None:
        """Begin to delete what is too old, if a newer round came since the last time."""
        oldest = self._oldest()
        if oldest is not None:
            self._begin(oldest)

    def _begin(self, oldest: int) -> None:
        with self._changed:
            if oldest == self._seen:
                return
            self._seen = oldest
            self._again = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="flstore-retention", daemon=False)
                self._thread.start()

    def flush(self) -> None:
        """Wait until nothing is being deleted."""
        with self._changed:
            self._changed.wait_for(lambda: self._thread is None)

    def _oldest(self, coming: int | None = None) -> int | None:
        """The oldest round that stays, with one that comes; None while there are fewer."""
        rounds = self._catalogue.rounds()
        if coming is not None and coming not in rounds:
            rounds = sorted([*rounds, coming])
        return rounds[-self.rounds] if len(rounds) >= self.rounds else None

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._again:
                    self._thread = None
                    self._changed.notify_all()
                    return
                self._again = False
            try:
                self._expire()
                self._warned = False
            except Exception as error:  # whatever it is, training goes on, and the next round tries again
                self._say(error)

    def _expire(self) -> None:
        deletions = self._deletions
        with deletions.alone:
            forgotten, self._forgotten = self._forgotten, None
            if forgotten is not None:
                deletions.erase(forgotten)
                deletions.unfinished = frozenset()
            doomed = self._too_old()
            if doomed is None or not doomed.rounds:
                return
            deletions.unfinished = frozenset(doomed.rounds)
            deletions.forget(doomed)
            deletions.erase(doomed)
            deletions.unfinished = frozenset()

    def _too_old(self, coming: int | None = None) -> Doomed | None:
        """Rounds to delete, with those that an earlier failure left; and the aggregates among them that stay."""
        oldest = self._oldest(coming)
        if oldest is None:
            return None
        with self._catalogue.lock:
            job, state = self._catalogue.number, self._catalogue.state
            models = [r for r in state.rounds.get((job, Kind.AGGREGATE), []) if r < oldest]
            base = {oldest - 1, *models[-1:]}
            rounds = {r for (j, kind, r), _ in state.slots() if j == job and r < oldest and kind is not Kind.AGGREGATE}
        rounds |= {r for r in models if r not in base} | self._deletions.unfinished
        return Doomed(self._catalogue.job, rounds=frozenset(rounds), keep_aggregates=frozenset(base))

    def _say(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            with contextlib.suppress(RuntimeWarning):  # where warnings are errors, training goes on all the same
                warnings.warn(
                    f"rounds that retention={self.rounds} does not keep could not be deleted "
                    f"({type(error).__name__}: {error}); it is tried again with the next round",
                    RuntimeWarning,
                    stacklevel=2,
                )
