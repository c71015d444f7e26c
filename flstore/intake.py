"""Ingests that go on after the call returned: one thread, in the order of the calls, with a bound on their bytes."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from flstore.errors import StoreError
from flstore.types import Key


class Intake:
    """What was handed over without a copy and is being encoded.

    Parameters
    ----------
    limit_bytes : int
        Bytes that may be in here and in the write buffer together.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flstore-intake")
        self._changed = threading.Condition()
        self._open: dict[Future[Any], tuple[frozenset[Key], int]] = {}
        self._failed: list[BaseException] = []
        self._warned = False

    def holds(self, keys: Iterable[Key]) -> bool:
        """Whether one of the objects is on its way in here."""
        wanted = set(keys)
        with self._changed:
            return any(not wanted.isdisjoint(held) for held, _ in self._open.values())

    def wait_for_room(self, size_bytes: int, elsewhere_bytes: Callable[[], int]) -> float:
        """Wait until `size_bytes` more may come, or nothing else is here; returns the seconds waited."""
        began = time.perf_counter()
        waited = False
        with self._changed:
            # What leaves the write buffer is not told here, so it is looked at now and then.
            while (taken := self._bytes() + elsewhere_bytes()) and taken + size_bytes > self._limit:
                waited = True
                self._warn_once()
                self._changed.wait(0.02)
        return time.perf_counter() - began if waited else 0.0

    def _warn_once(self) -> None:
        if not self._warned:
            self._warned = True
            said = f"the write buffer of {self._limit:,} bytes is full, so ingest waits for the store"
            warnings.warn(f"{said}; a larger one absorbs longer bursts", RuntimeWarning, stacklevel=5)

    def start(self, job: Callable[[], Any], keys: Iterable[Key], size_bytes: int) -> Future[Any]:
        """Run a job after all that came before it; the future has what it returned or raised."""
        future: Future[Any] = Future()
        with self._changed:
            self._open[future] = frozenset(keys), size_bytes
        self._thread.submit(self._run, future, job)
        return future

    def settle(self) -> None:
        """Wait for all that came before this call; what went wrong is not raised here."""
        if self._open:  # what comes later is not meant
            wait(self.pending())

    def pending(self) -> list[Future[Any]]:
        """What has not ended yet."""
        with self._changed:
            return list(self._open)

    def raise_failed(self) -> None:
        """Say once what went wrong since the last time.

        Raises
        ------
        StoreError
            With the first error as its cause, and the number of all.
        """
        with self._changed:
            failed, self._failed = self._failed, []
        if failed:
            raise StoreError(
                f"{len(failed)} ingest{'s' * (len(failed) != 1)} with copy=False did not end well, after the call had "
                f"returned. The first: {type(failed[0]).__name__}: {failed[0]}"
            ) from failed[0]

    def close(self) -> None:
        """Take nothing more, end the thread."""
        self._thread.shutdown()

    def _bytes(self) -> int:
        return sum(size for _, size in self._open.values())

    def _run(self, future: Future[Any], job: Callable[[], Any]) -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = job()
        except BaseException as raised:
            error = raised
        with self._changed:
            del self._open[future]
            if error is not None:
                self._failed.append(error)
            self._changed.notify_all()
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
