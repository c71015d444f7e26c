"""What the baselines have in common: requests are computed in this process, on data fetched for each of them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from flstore.engine import RequestRecord
from flstore.errors import FLStoreError, InvalidParameterError, RequestError, StoreError, UpdateNotFoundError
from flstore.persistence.threads import concurrently
from flstore.persistence.values import about, take
from flstore.results import Question
from flstore.status import Status
from flstore.system import System
from flstore.types import Deleted, Ingested, Key, KeySet, Kind
from flstore.workloads.base import Inputs, Scope, Workload


class Aggregator(System):
    """A system without cache functions: one process that fetches what a request reads, and computes.

    Parameters
    ----------
    root : str
        The persistent store.
    concurrency : int
        Objects fetched at the same time.
    compute_threads : int, default 1
        Requests computed at the same time, as of one cache function: FLStore gives a function one or, for large models,
        two (``flstore.sizing.SIZES``). A single computation may use every core, here as there.
    **options
        See :class:`flstore.system.System`.
    """

    place: ClassVar[str] = "aggregator"

    def __init__(self, root: str, *, concurrency: int, compute_threads: int = 1, **options: Any) -> None:
        for name, value in (("concurrency", concurrency), ("compute_threads", compute_threads)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidParameterError(f"{name} must be an integer of at least 1, got {value!r}")
        self.concurrency, self.compute_threads = concurrency, compute_threads
        super().__init__(root, **options)
        self._compute = ThreadPoolExecutor(compute_threads, thread_name_prefix="flstore-aggregator")

    # --- what exists ------------------------------------------------------------------------------------------------

    def refresh(self, rounds: Sequence[int] | None = None) -> None:
        """List the persistent store again, or some rounds of it: another process may have written or deleted there."""
        with self._ingest_lock:  # what is being deleted must not be found again
            with contextlib.suppress(StoreError):  # of writes that failed; what they should have written is known
                self._writer.flush()
            known = self._known(rounds)
            listed = {
                (e.keys.kind, *pair) for e in self._catalogue.read(self._objects, rounds) for pair in e.keys.pairs()
            }
            self._lose(known - listed)

    def _known(self, rounds: Sequence[int] | None) -> set[tuple[Kind, int, int]]:
        with self._lock:
            return {
                (kind, round, client)
                for (_, kind, round), table in self._state.slots()
                if rounds is None or round in rounds
                for client in table.clients.tolist()
            }

    def _lose(self, gone: set[tuple[Kind, int, int]]) -> None:
        """Forget what is not in the persistent store any more, unless it never came there."""
        slots: dict[tuple[Kind, int], list[int]] = {}
        for kind, round, client in sorted(gone):
            slots.setdefault((kind, round), []).append(client)
        with self._lock:
            sets = [KeySet.of_round(self._catalogue.number, kind, r, clients) for (kind, r), clients in slots.items()]
            lost = [key for keys in sets for key in self._catalogue.keys(keys) if not self._pending(key)]
            if lost:
                self._forget(Deleted(self._catalogue.key_sets(lost)))
        for key in lost:
            if key.kind is Kind.METADATA:
                self._rows.get(key.round, {}).pop(str(key.client), None)
            elif key.kind is Kind.UPDATE and (self._signatures.get(key.round) or (None,))[0] == key.client:
                del self._signatures[key.round]

    def _pending(self, key: Key) -> bool:
        if key.kind is Kind.METADATA:
            return self._writer.metadata_pending(self.job, key.round)
        return self._writer.pending(key) is not None

    def _needs(self, workload: Workload, scope: Scope) -> list[Key]:
        try:
            return super()._needs(workload, scope)
        except UpdateNotFoundError:
            self.refresh()
            return super()._needs(workload, scope)

    def _arrived(self, events: list[Ingested], values: Mapping[Key, Any]) -> None:
        for event in events:
            self._state.register(event.keys, event.sizes)

    # --- requests ---------------------------------------------------------------------------------------------------

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
            if any(map(self._pending, question.keys)):
                self._writer.flush()
            inputs = Inputs(question.scope, self._gather(question.keys, record))
            ready = time.perf_counter()
            record.fetch_s = ready - began
            if question.future.done():  # or while it fetched
                return
            value = question.workload.compute(inputs)
            record.compute_s = time.perf_counter() - ready
            record.functions.append(self.place)
        except FLStoreError as error:
            question.fail(error)
        except BaseException as error:  # what a workload raises reaches the caller as it does from a function
            question.fail(RequestError(f"{type(error).__name__}: {error}"))
        else:
            question.finish(value)

    def _gather(self, keys: Sequence[Key], record: RequestRecord) -> dict[Key, Any]:
        try:
            return self._fetch(keys, record)
        except UpdateNotFoundError as error:
            with contextlib.suppress(FLStoreError):  # the error that is raised says more
                self.refresh([error.key.round] if error.key is not None else None)
            raise

    def _fetch(self, keys: Sequence[Key], record: RequestRecord) -> dict[Key, Any]:
        """The values of objects, and in the record what it took."""
        found: dict[Key, Any] = {}
        tensors = [key for key in keys if key.kind is not Kind.METADATA]
        for key, stored in self._read_tensors(tensors, record).items():
            found[key], size = self._take(key, stored)
            record.bytes_moved += size
        rounds = sorted({key.round for key in keys if key.kind is Kind.METADATA})
        documents = dict(zip(rounds, self._read_metadata(rounds), strict=True))
        record.operations += len(rounds)
        for key in keys:
            if key.kind is Kind.METADATA:
                row = documents[key.round].get(str(key.client))
                if row is None:
                    with about(key):
                        raise UpdateNotFoundError(f"there is no {key} below {self._objects.root}")
                found[key], size = take(key, row)
                record.bytes_moved += size
        return found

    def _read_tensors(self, keys: Sequence[Key], record: RequestRecord) -> Mapping[Key, Any]:
        """The stored form of updates and aggregates."""
        record.operations += len(keys)
        return dict(zip(keys, concurrently(self._read_one, keys, self.concurrency), strict=True))

    def _read_one(self, key: Key) -> Any:
        with about(key):
            return self._objects.get(key)

    def _take(self, key: Key, stored: Any) -> tuple[Any, int]:
        """The value of what is stored of an update or aggregate, and its bytes."""
        return take(key, stored)

    def _read_metadata(self, rounds: Sequence[int]) -> Iterable[Mapping[str, Any]]:
        """The metadata rows of rounds."""
        return concurrently(lambda round: self._objects.get_metadata(self.job, round)[0], rounds, self.concurrency)

    def status(self) -> Status:
        """What exists, and how requests fared; shows itself in a notebook."""
        return Status.of(self, "none: every request fetches", (), self._writer.pending_bytes, self._tracker.by_class())

    def __repr__(self) -> str:
        return repr(self.status())

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()

    def _shut(self, last: Callable[[], None]) -> None:
        self._compute.shutdown()
        last()
