"""What a caller gets back: results of requests, receipts of ingests; and a request on its way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from flstore.engine import RequestRecord
from flstore.errors import RequestTimeoutError
from flstore.types import Key
from flstore.workloads.base import Scope, Workload


@dataclass(frozen=True)
class Result:
    """The answer to a request.

    Attributes
    ----------
    value : object
        What the workload returned.
    record : RequestRecord
        How it was answered: hits, misses, seconds, functions.
    """

    value: Any
    record: RequestRecord

    def __repr__(self) -> str:
        from flstore.display.result import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.result import html

        return html(self)


@dataclass(frozen=True)
class Receipt:
    """What an ingest took in.

    Attributes
    ----------
    round : int
        The round.
    clients : tuple of str
        Clients whose updates are new (identical ones that were there already are not listed).
    size_bytes : int
        Bytes that are being written.
    waited_s : float
        Seconds that the ingest was held up because the write buffer was full.
    """

    round: int
    clients: tuple[str, ...]
    size_bytes: int
    _writes: tuple[Future[Any], ...] = field(default=(), repr=False)
    waited_s: float = 0.0
    _later: Future[Receipt] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        from flstore.display.result import receipt_text

        return receipt_text(self)

    def _repr_html_(self) -> str:
        from flstore.display.result import receipt_html

        return receipt_html(self)

    @property
    def durable(self) -> bool:
        """Whether everything is in the persistent store."""
        if self._later is not None:
            return self._later.done() and self._later.exception() is None and self._later.result().durable
        return all(w.done() and w.exception() is None for w in self._writes)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until everything is in the persistent store; raises what a write raised."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        writes = self._writes if self._later is None else self._later.result(timeout_s)._writes
        for write in writes:
            write.result(None if deadline is None else max(0.0, deadline - time.monotonic()))


class RequestFuture(Future[Result]):
    """The answer to a request that is on its way, as a future of the standard library; shows how far it is.

    Attributes
    ----------
    record : RequestRecord
        What is known of the request so far.
    started : float
        When it was asked, by ``time.perf_counter``.
    """

    def __init__(self, record: RequestRecord, started: float) -> None:
        super().__init__()
        self.record, self.started = record, started

    def __repr__(self) -> str:
        from flstore.display.request import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.request import html

        return html(self)


@dataclass(eq=False)
class Question:
    """One request on its way. It ends once, by whichever thread is first; what comes later is ignored."""

    workload: Workload
    scope: Scope
    keys: list[Key]
    deadline_s: float | None
    record: RequestRecord
    started: float
    waited_s: float = 0.0
    closed: Callable[[RequestRecord], None] | None = None
    future: RequestFuture = field(init=False)
    hit_keys: set[Key] = field(default_factory=set)
    _claim: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.future = RequestFuture(self.record, self.started)
        self.future.set_running_or_notify_cancel()

    @property
    def left_s(self) -> float | None:
        """Seconds to the deadline, None without one."""
        return None if self.deadline_s is None else max(0.0, self.started + self.deadline_s - time.perf_counter())

    def finish(self, value: Any) -> None:
        """Give the answer."""
        if self._first():
            self._close("done")
            self.future.set_result(Result(value, self.record))

    def fail(self, error: BaseException) -> None:
        """Say what went wrong."""
        if self._first():
            self.record.error = f"{type(error).__name__}: {error}"
            self._close("failed")
            self.future.set_exception(error)

    def fail_at_deadline(self) -> None:
        """Say that the deadline has passed."""
        self.fail(RequestTimeoutError(f"{self.workload.name} was not answered within its {self.deadline_s} seconds"))

    def _first(self) -> bool:
        # Never released: the lock itself says that there is an answer, and no callback runs under it.
        return self._claim.acquire(blocking=False)

    def _close(self, status: str) -> None:
        self.record.latency_s = time.perf_counter() - self.started
        self.record.status = status
        if self.closed is not None:
            self.closed(self.record)
