"""Writes in the background, with a bound on what is not yet durable.

The process that ingests keeps each encoded update here until its object is stored, so no cache function ever holds the
only copy. A write that fails for good stays in the buffer too: it is reported, and can be tried again.
"""

# Longer than 300 lines because what waits, fails and is given up shares one lock.

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import tenacity

from flstore.codec import checksum_of
from flstore.errors import CorruptObjectError, InvalidParameterError, StoreClosedError, StoreError, UpdateExistsError
from flstore.persistence.metadata import RoundMetadata
from flstore.persistence.objects import ObjectStore
from flstore.persistence.waiting import Doomed, WaitingMetadata, WaitingUpdate, new_future
from flstore.tensors import Buffer
from flstore.types import Key

_log = logging.getLogger(__name__)


class Writer:
    """Stores objects in the background. Safe to use from many threads.

    Parameters
    ----------
    objects : ObjectStore
        Where to.
    write_buffer : int
        Bytes of updates that may wait to become durable; then :meth:`submit` blocks.
    threads : int, default 4
        Updates written at a time. Metadata has one thread of its own, which keeps its order.
    attempts, backoff_s : int, float
        Tries of a write that fails with a StoreError; the wait before the second, doubled each time, at most 5 s.
    """

    def __init__(
        self, objects: ObjectStore, *, write_buffer: int, threads: int = 4, attempts: int = 4, backoff_s: float = 0.2
    ) -> None:
        if write_buffer < 1 or threads < 1 or attempts < 1:
            raise InvalidParameterError(
                f"write_buffer={write_buffer}, threads={threads}, attempts={attempts}: each must be at least 1"
            )
        self.write_buffer = write_buffer
        self._objects = objects
        self._updates = ThreadPoolExecutor(threads, thread_name_prefix="flstore-write")
        self._rounds = ThreadPoolExecutor(1, thread_name_prefix="flstore-write-metadata")
        self._retry: Callable[..., Any] = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(attempts),
            wait=tenacity.wait_exponential(multiplier=backoff_s, max=5),
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        )
        self._changed = threading.Condition()
        self._pending: dict[Key, WaitingUpdate] = {}
        self._documents: dict[tuple[str, int], WaitingMetadata] = {}
        self._running = 0
        self._bytes = 0
        self._warned = self._closed = False
        self.waited_s = 0.0  # how long submit was held up by a full buffer, in all

    def submit(self, key: Key, buffer: Buffer) -> Future[bool]:
        """Hand over an encoded object; blocks while the buffer is full, and warns about that once.

        An object larger than the whole buffer is accepted when nothing else waits.

        Returns
        -------
        Future of bool
            What :meth:`ObjectStore.put` returned or raised.

        Raises
        ------
        StoreError
            An earlier write failed for good (told once), or only failed writes fill the buffer. `buffer` was not taken.
        UpdateExistsError
            Another object waits under the same key.
        StoreClosedError
            The writer is closed.
        """
        with self._changed:
            self._check_open()
            self._raise_failed(again=False)
            known = self._pending.get(key)
            if known is not None:
                if checksum_of(known.buffer) == checksum_of(buffer):
                    return known.future
                raise UpdateExistsError(f"another {key} is being written; updates are never overwritten")
            write = WaitingUpdate(key, buffer, new_future())
            self._wait_for_room(write)
            self._pending[key] = write
            self._bytes += write.size_bytes
            self._start(self._updates, self._write, write)
        return write.future

    def submit_metadata(
        self, job: str, round: int, rows: Mapping[str, Mapping[str, Any]], server: Mapping[str, Any] | None = None
    ) -> Future[None]:
        """Merge metadata in the background, in the order of the calls; rows that wait for one round go together.

        Raises
        ------
        InvalidUpdateError
            A value that JSON cannot hold.
        StoreError, StoreClosedError
            As :meth:`submit`.
        """
        newer = RoundMetadata.of(rows, server)
        future = new_future()
        with self._changed:
            self._check_open()
            self._raise_failed(again=False)
            document = self._documents.setdefault((job, round), WaitingMetadata())
            document.content.merge(newer)
            document.futures.append(future)
            document.error = None
            self._start(self._rounds, self._write_metadata, (job, round))
        return future

    def pending(self, key: Key) -> Buffer | None:
        """The bytes of an object that is not durable yet, or None."""
        with self._changed:
            write = self._pending.get(key)
            return None if write is None else write.buffer

    def metadata_pending(self, job: str, round: int) -> bool:
        """Whether metadata of a round is not durable yet."""
        with self._changed:
            return (job, round) in self._documents

    @property
    def pending_bytes(self) -> int:
        """Bytes of updates that are not durable yet."""
        return self._bytes

    def raise_failed(self) -> None:
        """Raise StoreError when writes failed for good; they stay in the buffer until :meth:`retry_failed` succeeds."""
        with self._changed:
            self._raise_failed(again=True)

    def retry_failed(self) -> list[Future[Any]]:
        """Try the failed writes again; one future for each."""
        futures: list[Future[Any]] = []
        with self._changed:
            self._check_open()
            for write in [w for w in self._pending.values() if w.error is not None]:
                write.future, write.error, write.told = new_future(), None, False
                futures.append(write.future)
                self._start(self._updates, self._write, write)
            for name, document in self._documents.items():
                if document.error is not None:
                    document.error, document.told = None, False
                    document.futures.append(new_future())
                    futures.append(document.futures[-1])
                    self._start(self._rounds, self._write_metadata, name)
        return futures

    def failed(self) -> list[tuple[int, str | None, str, BaseException]]:
        """Round, client, kind and error of what could not be written and waits to be tried again."""
        with self._changed:
            found: list[tuple[int, str | None, str, BaseException]] = [
                (key.round, key.client, key.kind.name.lower(), w.error)
                for key, w in self._pending.items()
                if w.error is not None
            ]
            found += [(r, None, "metadata", d.error) for (_, r), d in self._documents.items() if d.error is not None]
        return found

    def give_up(self, doomed: Doomed) -> None:
        """Wait for writes of what is to be deleted, and let go of those that failed: they will not be tried again."""
        with self._changed:
            while any(w.error is None for w in doomed.among(self._pending, self._documents)):
                self._changed.wait()
            for key in filter(doomed.has, list(self._pending)):
                self._bytes -= self._pending.pop(key).size_bytes
            for name in filter(doomed.concerns, list(self._documents)):
                if doomed.strike(self._documents[name]):
                    del self._documents[name]
            self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until nothing is being written; StoreError when a write failed, or after `timeout` seconds."""
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self._running:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    raise StoreError(
                        f"{len(self._pending)} updates ({self._bytes:,} bytes) not stored after {timeout} s"
                    )
                self._changed.wait(left)
            self._raise_failed(again=True)

    def close(self) -> None:
        """Flush, and accept nothing more. A StoreError says what could not be stored; it is still `pending`."""
        with self._changed:
            already, self._closed = self._closed, True
            self._changed.notify_all()
        try:
            if not already:
                self.flush()
        finally:
            self._updates.shutdown()
            self._rounds.shutdown()

    def check_room(self) -> int:
        """Bytes that are not yet durable.

        Raises
        ------
        StoreError
            Only failed writes fill the buffer, so waiting for room would not help.
        """
        with self._changed:
            if self._pending and all(w.error is not None for w in self._pending.values()):
                self._raise_failed(again=True)
            return self._bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # The next four are called with the lock held, the three after them without.

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError("the writer was closed; open the store again")

    def _raise_failed(self, *, again: bool) -> None:
        everything: list[WaitingUpdate | WaitingMetadata] = [*self._pending.values(), *self._documents.values()]
        failed = [w for w in everything if w.error is not None]
        if not failed or (not again and all(w.told for w in failed)):
            return
        for write in failed:
            write.told = True
        first = failed[0].error
        raise StoreError(
            f"{len(failed)} writes failed and are kept in the write buffer ({self._bytes:,} of {self.write_buffer:,} "
            f"bytes used); retry_failed() tries them again. The first: {first}"
        ) from first

    def _wait_for_room(self, write: WaitingUpdate) -> None:
        while self._bytes and self._bytes + write.size_bytes > self.write_buffer:
            if all(w.error is not None for w in self._pending.values()):
                self._raise_failed(again=True)
            if not self._warned:
                self._warned = True
                said = f"the write buffer of {self.write_buffer:,} bytes is full, so ingest waits for the store"
                warnings.warn(f"{said}; a larger one absorbs longer bursts", RuntimeWarning, stacklevel=3)
            began = time.perf_counter()
            self._changed.wait()
            self.waited_s += time.perf_counter() - began
            self._check_open()
            if write.key in self._pending:
                raise UpdateExistsError(f"another {write.key} was submitted meanwhile")

    def _start(self, pool: ThreadPoolExecutor, function: Callable[[Any], None], what: Any) -> None:
        self._running += 1
        pool.submit(function, what)

    def _write(self, write: WaitingUpdate) -> None:
        """Store one object; on a thread of the pool."""
        error: BaseException | None = None
        result = False
        try:
            result = self._retry(self._objects.put, write.key, write.buffer)
        except BaseException as exc:
            error = exc
        with self._changed:
            future = write.future
            # A conflict is final: the stored object stays, and this one has no place to go.
            if error is None or isinstance(error, UpdateExistsError):
                del self._pending[write.key]
                self._bytes -= write.size_bytes
            else:
                write.error = error
        self._finish([future], result, error)

    def _write_metadata(self, name: tuple[str, int]) -> None:
        """Merge all that waits for one round; on the metadata thread."""
        with self._changed:
            # Without a document, an earlier turn took these rows along.
            document = self._documents.get(name, WaitingMetadata())
            taken, document.content = document.content, RoundMetadata()
            futures, document.futures = document.futures, []
        error: BaseException | None = None
        try:
            if futures:
                self._retry(self._objects.put_metadata, *name, taken.rows, taken.server)
        except BaseException as exc:
            error = exc
        with self._changed:
            document.error, document.told = error, False
            if error is not None:
                taken.merge(document.content)
                document.content = taken
            elif not document.futures:
                self._documents.pop(name, None)
        self._finish(futures, None, error)

    def _finish(self, futures: list[Future[Any]], result: Any, error: BaseException | None) -> None:
        """Answer, without the lock, because callbacks run here; only then does a flush count the write as done."""
        if error is not None:
            _log.error("a background write failed: %s", error)
        for future in futures:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        with self._changed:
            self._running -= 1
            self._changed.notify_all()


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, StoreError) and not isinstance(error, CorruptObjectError)
