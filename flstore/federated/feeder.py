"""Hands what was observed to a store, off the training thread and with bounded memory.

A thread lives only while there is something to hand over, and the interpreter waits for it at exit: nothing is lost
when a script ends without closing its store, and nothing keeps a finished script alive.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from flstore.errors import InvalidParameterError, InvalidUpdateError, StoreClosedError, UpdateExistsError

Tensors = Callable[[], Mapping[str, Any]]
"""Decodes tensors when it is called, so that the thread which observes pays nothing for it."""


class Ingests(Protocol):
    """What a store offers to observers."""

    def ingest(
        self,
        round: int,
        updates: Mapping[str, Mapping[str, Any]],
        aggregate: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Any:
        """Take in client updates, the aggregate and metadata of a round: any of the three."""
        ...

    def add_feeder(self, feeder: Feeder) -> Any:
        """Flush and close `feeder` with the store."""
        ...


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one observation of a round hands over.

    Attributes
    ----------
    round : int
        Round of all that follows.
    size_bytes : int
        Bytes that it keeps in memory until it is ingested.
    updates : dict of client id to tensors
        In the order of arrival.
    aggregate : callable, optional
        The global model after the round.
    metadata : dict of client id to dict
        Scalars by name.
    """

    round: int
    size_bytes: int = 0
    updates: dict[str, Tensors] = field(default_factory=dict)
    aggregate: Tensors | None = None
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)


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
    warning once a round, and raised by :meth:`flush` or :meth:`close`.
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
        self._reported: set[int] = set()
        self._waited = self._closed = False

    @property
    def pending_bytes(self) -> int:
        """Bytes handed over and not yet ingested."""
        with self._changed:
            return self._bytes

    def submit(self, parcel: Parcel) -> None:
        """Hand over a parcel. Waits while the buffer is full; never raises for a parcel that fails."""
        self._say_when_full(parcel)
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._has_room(parcel))
                if self._closed:
                    raise StoreClosedError(f"round {parcel.round} came after the store was closed")
                self._start()
                self._queue.append(parcel)
                self._bytes += parcel.size_bytes
        except RuntimeError as error:  # closed, or the interpreter is ending and starts no more threads
            self.failed(parcel.round, error)

    def failed(self, round: int, error: BaseException) -> None:
        """Note that something of `round` could not be recorded: warn once a round, raise at the next flush."""
        _forget_locals(error)
        with self._changed:
            self._failures.append((round, error))
            first = round not in self._reported
            self._reported.add(round)
        if first:
            warn(f"Not all of round {round} was recorded: {type(error).__name__}: {error}. store.flush() raises it.")

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until all that was handed over is ingested, then raise what failed since the last time.

        Raises
        ------
        TimeoutError
            Still not ingested after `timeout_s` seconds; it goes on in the background.
        Exception
            The first failure, as it was raised, with a note for each further one.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._thread is None, timeout_s):
                raise TimeoutError(f"{self._bytes / 1e6:.0f} MB of updates are not yet ingested after {timeout_s} s")
            failures, self._failures = self._failures, []
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
        self.flush()

    def __repr__(self) -> str:
        return (
            f"Feeder({self.pending_bytes / 1e6:.0f} of {self._limit / 1e6:.0f} MB{', closed' if self._closed else ''})"
        )

    def _has_room(self, parcel: Parcel) -> bool:
        return self._bytes == 0 or self._bytes + parcel.size_bytes <= self._limit

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
                    self._changed.notify_all()
                    return
                parcel = self._queue.popleft()
            size_bytes, round = parcel.size_bytes, parcel.round
            try:
                self._ingest(parcel)
            except BaseException as error:  # whatever it is, those who wait for this thread must go on
                self.failed(round, error)
            del parcel  # frees the tensors before the room for them is given away
            with self._changed:
                self._bytes -= size_bytes
                self._changed.notify_all()

    def _ingest(self, parcel: Parcel) -> None:
        updates: dict[str, Mapping[str, Any]] = {}
        metadata = dict(parcel.metadata)
        for client, tensors in parcel.updates.items():
            try:
                updates[client] = tensors()
            except Exception as error:  # one client's malformed reply must not cost the round
                metadata[client] = {**metadata.get(client, {}), "error": f"{type(error).__name__}: {error}"}
                self.failed(parcel.round, error)
        aggregate = parcel.aggregate() if parcel.aggregate else None
        if not (updates or aggregate or metadata):
            return
        try:
            self._store.ingest(parcel.round, updates, aggregate=aggregate, metadata=metadata or None)
        except (InvalidUpdateError, UpdateExistsError):
            if len(updates) < 2:
                raise
            self._one_by_one(parcel.round, updates, aggregate, metadata)

    def _one_by_one(
        self, round: int, updates: Mapping[str, Mapping[str, Any]], aggregate: Any, metadata: dict[str, dict[str, Any]]
    ) -> None:
        """Ingest is all or nothing; when one client's update does not fit the others, keep the others."""
        for client, tensors in updates.items():
            try:
                self._store.ingest(round, {client: tensors})
            except (InvalidUpdateError, UpdateExistsError) as error:
                metadata[client] = {**metadata.get(client, {}), "error": f"{type(error).__name__}: {error}"}
                self.failed(round, error)
        self._store.ingest(round, {}, aggregate=aggregate, metadata=metadata or None)


def warn(text: str) -> None:
    """Warn without ever raising: where warnings are errors, training goes on all the same."""
    with contextlib.suppress(RuntimeWarning):
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def _forget_locals(error: BaseException | None) -> None:
    """Keep the lines of a traceback but not the variables, which would hold a round of tensors until the next flush."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
