"""Hands what was observed to a store, off the training thread and with bounded memory.

A thread lives only while there is something to hand over, and the interpreter waits for it at exit: nothing is lost
when a script ends without closing its store, and nothing keeps a finished script alive.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from flstore.errors import (
    CorruptObjectError,
    InvalidParameterError,
    InvalidUpdateError,
    StoreClosedError,
    StoreError,
    UpdateExistsError,
    WriterExistsError,
)
from flstore.federated.parcel import Ingests, Lost, Parcel, Tensors
from flstore.federated.telling import forget_locals, warn

__all__ = ["Feeder", "Ingests", "Lost", "Parcel", "Tensors", "warn"]


class Feeder:
    """A queue of parcels, bounded in bytes, and the thread that ingests them in order.

    Parameters
    ----------
    store : Ingests
        Where parcels go.
    buffer_bytes : int
        Bytes that may wait. When they are reached, :meth:`submit` waits (and says so once), because losing an
        update or running out of memory would be worse. A parcel larger than this passes when nothing else waits.

    Notes
    -----
    Thread safe. A parcel that fails never raises in :meth:`submit`, so that training goes on: it is reported as a
    warning once a round, raised by :meth:`flush` or :meth:`close`, and listed by :attr:`lost`. When the persistent
    store fails, parcels are held as long as there is room, and are tried again when the store works, and by
    :meth:`flush`; training does not wait for them: without room the oldest is lost.
    """

    def __init__(self, store: Ingests, buffer_bytes: int = 1 << 30) -> None:
        if buffer_bytes < 1:
            raise InvalidParameterError(f"buffer_bytes is {buffer_bytes}; it must be at least 1")
        self._store = store
        self._limit = buffer_bytes
        self._changed = threading.Condition()
        self._queue: deque[Parcel] = deque()
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._failures: list[tuple[int, BaseException]] = []
        self._held: list[tuple[Parcel, BaseException]] = []
        self._lost: list[Lost] = []
        self._submitted = self._done = 0
        self._retried: int | None = None
        self._reported: set[int] = set()
        self._waited = self._closed = False

    @property
    def pending_bytes(self) -> int:
        """Bytes handed over and not yet ingested."""
        with self._changed:
            return self._bytes

    @property
    def lost(self) -> list[Lost]:
        """What was handed over and will not be ingested, in the order in which it was found."""
        with self._changed:
            return list(self._lost)

    @property
    def held(self) -> list[Lost]:
        """What waits here for a store that fails."""
        with self._changed:
            return [lost for parcel, error in self._held for lost in parcel.lost(error)]

    def submit(self, parcel: Parcel) -> None:
        """Hand over a parcel. Waits while the buffer is full; never raises for a parcel that fails."""
        dropped: list[tuple[Parcel, BaseException]] = []
        try:
            with self._changed:
                self._make_room(parcel, dropped)
            self._say_when_full(parcel)
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._make_room(parcel, dropped))
                if self._closed:
                    raise StoreClosedError(f"round {parcel.round} came after the store was closed")
                self._start()
                self._queue.append(parcel)
                self._submitted += 1
                self._bytes += parcel.size_bytes
        except RuntimeError as error:  # closed, or the interpreter is ending and starts no more threads
            dropped.append((parcel, error))
        for lost, why in dropped:
            self._fail(lost.round, why, lost.lost(why))

    def failed(self, round: int, error: BaseException, client: str | None = None, kind: str = "") -> None:
        """Note that something of `round` could not be recorded: warn once a round, raise at the next flush."""
        kind = kind or ("observation" if client is None else "update")
        self._fail(round, error, [Lost(round, client, kind, f"{type(error).__name__}: {error}")])

    def _fail(self, round: int, error: BaseException, lost: list[Lost]) -> None:
        forget_locals(error)
        with self._changed:
            self._failures.append((round, error))
            self._lost += lost
        self._report(round, error)

    def _hold(self, parcel: Parcel, error: BaseException) -> None:
        """Keep a parcel that the store may take later."""
        forget_locals(error)
        with self._changed:
            self._held.append((parcel, error))
        self._report(parcel.round, error)

    def _report(self, round: int, error: BaseException) -> None:
        with self._changed:
            first = round not in self._reported
            self._reported.add(round)
        if first:
            warn(
                f"Not all of round {round} was recorded: {type(error).__name__}: {error}. store.not_stored lists what "
                f"is missing and whether it is kept to be tried again; store.flush() tries, and raises what fails."
            )

    def _try_held(self) -> None:
        """Put what is held back into the queue; with the lock held."""
        self._queue.extend(parcel for parcel, _ in self._held)
        self._done -= len(self._held)
        self._held = []

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all that was handed over before is ingested, then raise what failed since the last time.

        Raises
        ------
        TimeoutError
            Still not ingested after `timeout_s` seconds; it goes on in the background.
        Exception
            The first failure, as it was raised, with a note for each further one.
        """
        with self._changed:
            if self._held:
                self._retried = None
                self._try_held()
                self._start()
            target = self._submitted
            if not self._changed.wait_for(lambda: self._done >= target, timeout_s):
                raise TimeoutError(f"{self._bytes / 1e6:.0f} MB of updates are not yet ingested after {timeout_s} s")
            failures, self._failures = self._failures, []
            failures += [(parcel.round, error) for parcel, error in self._held]
        if failures:
            first = failures[0][1]
            for round, error in failures[1:]:
                first.add_note(f"also, round {round}: {type(error).__name__}: {error}")
            raise first

    def close(self) -> None:
        """Take nothing more, wait for what was handed over, then raise what failed. May be called again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        try:
            self.flush()
        finally:
            with self._changed:
                for parcel, error in self._held:
                    self._lost += parcel.lost(error)
                    self._bytes -= parcel.size_bytes
                self._held = []

    def __repr__(self) -> str:
        return (
            f"Feeder({self.pending_bytes / 1e6:.0f} of {self._limit / 1e6:.0f} MB{', closed' if self._closed else ''})"
        )

    def _has_room(self, parcel: Parcel) -> bool:
        return self._bytes == 0 or self._bytes + parcel.size_bytes <= self._limit

    def _make_room(self, parcel: Parcel, dropped: list[tuple[Parcel, BaseException]]) -> bool:
        """Let go of what is held until there is room; with the lock held."""
        while self._held and not self._has_room(parcel):
            dropped.append(self._held.pop(0))
            self._bytes -= dropped[-1][0].size_bytes
        return self._has_room(parcel)

    def _say_when_full(self, parcel: Parcel) -> None:
        with self._changed:
            if self._waited or self._closed or self._has_room(parcel):
                return
            self._waited = True
            waiting = self._bytes
        warn(
            f"Training waits for the store: {waiting / 1e6:.1f} MB of updates are not yet ingested, and the buffer "
            f"holds {self._limit / 1e6:.1f} MB. Raise buffer_bytes of observe(), or use a faster persistent store. "
            "This is said once."
        )

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="flstore-feeder", daemon=False)
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    self._thread = None
                    return
                parcel = self._queue.popleft()
            freed, works = parcel.size_bytes, False
            try:
                works = self._ingest(parcel)
            except BaseException as error:  # whatever it is, those who wait for this thread must go on
                if _may_pass(error):
                    self._hold(parcel, error)
                    freed = 0
                else:
                    self._fail(parcel.round, error, parcel.lost(error))
            del parcel  # frees the tensors before the room for them is given away
            with self._changed:
                if works:
                    self._try_held()
                self._bytes -= freed
                self._done += 1
                self._changed.notify_all()

    def _ingest(self, parcel: Parcel) -> bool:
        """Whether the store took something in."""
        updates: dict[str, Mapping[str, Any]] = {}
        metadata = dict(parcel.metadata)
        for client, tensors in parcel.updates.items():
            try:
                updates[client] = tensors()
            except Exception as error:  # one client's malformed reply must not cost the round
                metadata[client] = {**metadata.get(client, {}), "error": f"{type(error).__name__}: {error}"}
                self.failed(parcel.round, error, client)
        aggregate = parcel.aggregate() if parcel.aggregate else None
        if not (updates or aggregate or metadata):
            return False
        try:
            self._take_in(parcel.round, updates, aggregate, metadata)
        except (InvalidUpdateError, UpdateExistsError):
            if not updates:
                raise
            self._one_by_one(parcel.round, updates, aggregate, metadata)
        return True

    def _one_by_one(
        self, round: int, updates: Mapping[str, Mapping[str, Any]], aggregate: Any, metadata: dict[str, dict[str, Any]]
    ) -> None:
        """Ingest is all or nothing; when one client's update does not fit the others, keep the others.

        What comes first decides what fits, so that is an update like most.
        """
        looks = {client: _look(tensors) for client, tensors in updates.items()}
        alike = Counter(looks.values())
        for client in sorted(updates, key=lambda c: -alike[looks[c]]):
            try:
                self._take_in(round, {client: updates[client]})
            except (InvalidUpdateError, UpdateExistsError) as error:
                metadata[client] = {**metadata.get(client, {}), "error": f"{type(error).__name__}: {error}"}
                self.failed(round, error, client)
        self._take_in(round, {}, aggregate, metadata)

    def _take_in(
        self, round: int, updates: Mapping[str, Mapping[str, Any]], aggregate: Any = None, metadata: Any = None
    ) -> None:
        try:
            self._store.ingest(round, updates, aggregate=aggregate, metadata=metadata or None)
        except StoreError as error:
            retry = getattr(self._store, "retry_writes", None)
            if retry is None or not _may_pass(error) or self._retried == round:
                raise
            self._retried = round
            retry()
            self._store.ingest(round, updates, aggregate=aggregate, metadata=metadata or None)


def _may_pass(error: BaseException) -> bool:
    """Whether the store may take later what it did not take now."""
    return isinstance(error, StoreError) and not isinstance(error, CorruptObjectError | WriterExistsError)


def _look(tensors: Mapping[str, Any]) -> Any:
    return tuple((name, str(getattr(a, "dtype", "")), getattr(a, "shape", ())) for name, a in tensors.items())
