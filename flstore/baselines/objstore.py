"""ObjStore-Agg: an aggregator that fetches from an object store what each request reads (Figure 3 of the paper)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from flstore.errors import FLStoreError, InvalidParameterError, RequestError, UpdateNotFoundError
from flstore.persistence.values import take
from flstore.system import Question, System
from flstore.types import Ingested, Key, Kind
from flstore.workloads.base import Inputs, Scope, Workload

LAYOUTS = ("per-update",)


class ObjStoreAgg(System):
    """Data in an object store, computation in the aggregator: no cache between them.

    One object an update, fetched concurrently: stronger than the authors' artifact, which stores one object a layer and
    fetches them one after the other.

    Parameters
    ----------
    root : str
        The persistent store; may be one that an FLStore writes.
    layout : {"per-update"}
        How updates are stored.
    concurrency : int, default 8
        Objects fetched at the same time.
    **options
        ``job``, ``storage_options``, ``write_buffer``, ``fsync``: see :class:`flstore.system.System`.
    """

    name: ClassVar[str] = "ObjStore-Agg"
    place: ClassVar[str] = "aggregator"

    def __init__(self, root: str, layout: str = "per-update", *, concurrency: int = 8, **options: Any) -> None:
        if layout not in LAYOUTS:
            raise InvalidParameterError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        if concurrency < 1:
            raise InvalidParameterError(f"concurrency must be at least 1, got {concurrency}")
        super().__init__(root, **options)
        self.layout = layout
        self.concurrency = concurrency
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="flstore-aggregator")

    def refresh(self) -> None:
        """List the persistent store again: another process may have written to it."""
        with self._ingest_lock:  # what is being deleted must not be found again
            self._catalogue.read(self._objects)

    def _needs(self, workload: Workload, scope: Scope) -> list[Key]:
        try:
            return super()._needs(workload, scope)
        except UpdateNotFoundError:
            self.refresh()
            return super()._needs(workload, scope)

    def _arrived(self, events: list[Ingested], values: Mapping[Key, Any]) -> None:
        for event in events:
            self._state.register(event.keys, event.sizes)

    def _answer(self, question: Question) -> None:
        question.record.misses = len(question.keys)
        if question.left_s is not None:
            timer = threading.Timer(question.left_s, question.fail_at_deadline)
            timer.daemon = True
            timer.start()
            question.future.add_done_callback(lambda _: timer.cancel())
        self._compute.submit(self._serve, question)

    def _serve(self, question: Question) -> None:
        record = question.record
        if question.future.done():  # its deadline passed while it waited for its turn
            return
        try:
            began = time.perf_counter()
            record.queue_s = began - question.started
            self._writer.flush()
            inputs = Inputs(question.scope, self._fetch(question.keys, record))
            ready = time.perf_counter()
            record.fetch_s = ready - began
            value = question.workload.compute(inputs)
            record.compute_s = time.perf_counter() - ready
            record.functions.append(self.place)
        except FLStoreError as error:
            question.fail(error)
        except BaseException as error:  # what a workload raises reaches the caller as it does from a function
            question.fail(RequestError(f"{type(error).__name__}: {error}"))
        else:
            question.finish(value)

    def _fetch(self, keys: list[Key], record: Any) -> dict[Key, Any]:
        tensors = [key for key in keys if key.kind is not Kind.METADATA]
        found: dict[Key, Any] = {}
        for key, stored in self._objects.get_many(tensors, self.concurrency).items():
            found[key], size = take(key, stored)
            record.bytes_moved += size
            record.operations += 1
        for round in sorted({key.round for key in keys if key.kind is Kind.METADATA}):
            rows, _ = self._objects.get_metadata(self.job, round)
            record.operations += 1
            for key in keys:
                if key.kind is Kind.METADATA and key.round == round:
                    if key.client not in rows:
                        raise UpdateNotFoundError(f"there is no {key} in the persistent store")
                    found[key], size = take(key, rows[key.client])
                    record.bytes_moved += size
        return found

    def _shut(self, last: Callable[[], None]) -> None:
        self._compute.shutdown()
        last()
