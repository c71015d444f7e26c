"""FLStore: wires the parts together. The class that a user holds."""

from __future__ import annotations

import asyncio
import platform
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flstore import policies
from flstore.engine import EventLog, reroute, step
from flstore.errors import CapacityError, FLStoreError, FunctionLostError, InvalidParameterError, PolicyError, RequestTimeoutError
from flstore.functions import wire
from flstore.policies.base import Policy
from flstore.sizing import function_memory
from flstore.status import FunctionStatus, Status
from flstore.system import Question, Receipt, System
from flstore.types import (
    Action, Drop, Event, FunctionJoined, FunctionLost, Ingested, Key, KeySet, Kind, Load, Loaded, LoadFailed,
    Requested, Run,
)  # fmt: skip

if TYPE_CHECKING:
    from flstore.functions.pool import Function

MEMBER_TIMEOUT_S = 30.0
"""How long a request waits for a function to come back when none is alive."""
ATTEMPTS = 4


class FLStore(System):
    """A cache for what federated learning leaves behind, with the computation placed where the data is.

    Use :meth:`local`; the constructor is for those who bring a pool of their own.

    Examples
    --------
    >>> import numpy as np
    >>> from flstore import FLStore
    >>> with FLStore.local(functions=1, root="memory://example") as store:
    ...     rng = np.random.default_rng(0)
    ...     updates = {f"client-{i}": {"w": rng.normal(size=100).astype("f4")} for i in range(4)}
    ...     receipt = store.ingest(1, updates)
    ...     store.request("cosine_similarity", round=1).value.similarity.shape
    (4, 4)
    """

    name: ClassVar[str] = "FLStore"

    def __init__(
        self,
        root: str,
        *,
        functions: int = 2,
        memory: int | str | None = None,
        job: str = "default",
        policy: str | Policy = "tailored",
        policy_options: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        write_buffer: int = 1 << 30,
        fsync: bool = False,
    ) -> None:
        from flstore.functions.pool import FunctionPool

        if isinstance(functions, bool) or not isinstance(functions, int) or functions < 1:
            raise InvalidParameterError(f"functions must be an integer of at least 1, got {functions!r}")
        self._policy = policies.make(policy, **(policy_options or {}))
        self._memory_bytes = function_memory(memory, functions)
        super().__init__(root, job=job, storage_options=storage_options, write_buffer=write_buffer, fsync=fsync)
        self._engine_lock = threading.RLock()
        self._moves: dict[int, asyncio.Task[None]] = {}
        self._busy = 0
        self._idle = threading.Condition()
        self._log = EventLog(self._header(), list(self._initial))
        try:
            self._pool = FunctionPool.local(
                functions,
                self._memory_bytes,
                self._objects.spec,
                processes=not self._objects.is_local_memory,
                joined=self._function_joined,
                lost=self._function_lost,
            )
            self._pool.start()
        except BaseException:
            self._closed = True
            self._shut(self._writer.close)
            raise

    @classmethod
    def local(
        cls,
        functions: int = 2,
        memory: int | str | None = None,
        root: str = "./flstore-data",
        job: str = "default",
        policy: str | Policy = "tailored",
        **options: Any,
    ) -> FLStore:
        """Start cache functions on this machine: one process each, on loopback, closed to other users by TLS.

        Parameters
        ----------
        functions : int, default 2
            Cache functions.
        memory : int or str, optional
            Memory of each, in bytes or as ``"2GiB"``: three quarters cache, one quarter scratch space for requests.
            Default: 4 GiB, less on a small machine.
        root : str
            The persistent store: a directory, or a URL that fsspec knows (``s3://bucket/prefix``). With ``memory://`` the
            functions are threads of this process, and nothing outlives it.
        job : str
            The FL job; several can share a root.
        policy : str or Policy
            The caching policy, one of ``flstore.policies.names()``, or an instance.
        **options
            ``policy_options`` (parameters of the policy), ``storage_options`` (for fsspec), ``write_buffer`` (bytes that may
            wait to be written), ``fsync`` (local writes survive a loss of power).
        """
        return cls(root, functions=functions, memory=memory, job=job, policy=policy, **options)

    # --- the engine -------------------------------------------------------------------------------------------------

    def _header(self) -> dict[str, Any]:
        from flstore import __version__

        options = {k: v for k, v in vars(self._policy).items() if not k.startswith("_")}
        return {
            "flstore": __version__, "python": platform.python_version(), "job": self.job, "policy": self._policy.name,
            "policy_options": options, "memory_bytes": self._memory_bytes,
        }  # fmt: skip

    def _handle(self, event: Event, values: Mapping[Key, Any] | None = None) -> list[Action]:
        """Let the engine decide about an event, log it, and set in motion what it decided, all in one order."""
        with self._engine_lock:
            actions = step(self._state, self._policy, event)
            self._log.append(event, actions)
            for action in actions:
                if isinstance(action, Load | Drop) and not self._closed:
                    self._start_move(action, values or {})
        return actions

    def _start_move(self, action: Load | Drop, values: Mapping[Key, Any]) -> None:
        """Begin a load or a drop on the event loop; decisions start in the order in which they were taken."""
        keys = self._catalogue.keys(action.keys)
        at_hand = {}
        if isinstance(action, Load):
            # What is not durable yet is sent from here; everything else the function fetches itself.
            held_here = ((key, values.get(key, self._writer.pending(key))) for key in keys)
            at_hand = {key: value for key, value in held_here if value is not None}
        with self._idle:
            self._busy += 1

        def begin() -> None:
            task = self._pool.loop.create_task(self._move(action, keys, at_hand))
            if isinstance(action, Load):
                self._moves[action.generation] = task
            task.add_done_callback(lambda _: self._moved(action))

        self._pool.loop.call_soon_threadsafe(begin)

    def _moved(self, action: Load | Drop) -> None:
        if isinstance(action, Load):
            self._moves.pop(action.generation, None)
        with self._idle:
            self._busy -= 1
            self._idle.notify_all()

    async def _move(self, action: Load | Drop, keys: list[Key], at_hand: dict[Key, Any]) -> None:
        try:
            if isinstance(action, Drop):
                await self._pool.call(action.function, "drop", keys=_packed(keys), generation=action.generation)
                return
            failed = await self._load(action, keys, at_hand)
        except FunctionLostError:
            return  # the engine hears of it as FunctionLost, and decides anew
        except FLStoreError as error:
            failed = [] if isinstance(action, Drop) else [(key, str(error)) for key in keys]
        if failed:
            reasons = "; ".join(sorted({reason for _, reason in failed})[:3])
            for part in self._catalogue.key_sets(key for key, _ in failed):
                self._handle(LoadFailed(action.function, part, reasons))
        if isinstance(action, Load) and len(failed) < len(keys):
            self._handle(Loaded(action.function, action.keys, action.generation))

    async def _load(self, action: Load, keys: list[Key], at_hand: dict[Key, Any]) -> list[tuple[Key, str]]:
        failed: list[Any] = []
        metadata = [key for key in at_hand if key.kind is Kind.METADATA]
        for batch in ([key] for key in at_hand if key.kind is not Kind.METADATA) if not metadata else (metadata,):
            data = [self._sendable(key, at_hand[key]) for key in batch]
            reply = await self._pool.call(action.function, "put", keys=_packed(batch), generation=action.generation, data=data)
            failed += wire.unpack(reply["failed"])
        rest = [key for key in keys if key not in at_hand]
        if rest:
            reply = await self._pool.call(action.function, "load", keys=_packed(rest), generation=action.generation)
            failed += wire.unpack(reply["failed"])
        return [(wire.key_of(values), reason) for values, reason in failed]

    @staticmethod
    def _sendable(key: Key, value: Any) -> Any:
        from flstore.functions.pool import sendable

        return wire.pack(value) if key.kind is Kind.METADATA else sendable(value)

    def _arrived(self, events: list[Ingested], values: Mapping[Key, Any]) -> None:
        for event in events:
            self._handle(event, values)

    def _take_in(self, arrival: Any) -> Receipt:
        receipt = super()._take_in(arrival)
        with self._engine_lock:
            largest = max((f.capacity_bytes for f in self._state.functions.values()), default=0)
        too_large = {k: memoryview(b).nbytes for k, b in arrival.buffers.items() if 0 < largest < memoryview(b).nbytes}
        if too_large:
            key, size = next(iter(too_large.items()))
            raise CapacityError(
                f"{key} has {size} bytes, more than the {largest} bytes that a function can cache. It is being written to the "
                f"persistent store all the same; open the store with more memory, such as FLStore.local(memory={2 * size})"
            )
        return receipt

    def _function_joined(self, function: Function, held: list[Any]) -> None:
        holds = []
        for values, size_bytes, _ in held:
            part = self._catalogue.key_sets([wire.key_of(values)])[0]
            holds.append((part, np.array([size_bytes], dtype=np.int64)))
        self._handle(FunctionJoined(function.number, function.capacity_bytes, function.incarnation, tuple(holds)))

    def _function_lost(self, function: Function) -> None:
        if not self._closed:
            self._handle(FunctionLost(function.number, function.incarnation))

    # --- requests ---------------------------------------------------------------------------------------------------

    def _answer(self, question: Question) -> None:
        event = Requested(
            question.record.request,
            self._catalogue.number,
            question.workload.name,
            question.workload.policy_class,
            question.scope.round,
            None if question.scope.client is None else self._catalogue.ids.find(question.scope.client),
            self._catalogue.key_sets(question.keys),
        )
        record = question.record
        try:
            run = self._handle(event)[-1]
        except PolicyError as error:
            question.fail(error)
            return
        assert isinstance(run, Run)
        record.hits, record.late_hits, record.misses = run.counts.hits, run.counts.late_hits, run.counts.misses
        self._pool.submit(self._run_to_end(question, event, run))

    async def _run_to_end(self, question: Question, event: Requested, run: Run) -> None:
        try:
            limit = None
            if question.deadline_s is not None:
                import time

                limit = max(0.0, question.deadline_s - (time.perf_counter() - question.started))
            value = await asyncio.wait_for(self._try_functions(question, event, run), limit)
        except TimeoutError as error:
            if isinstance(error, FLStoreError):
                question.fail(error)
            else:
                question.fail(
                    RequestTimeoutError(f"{question.workload.name} was not answered within its {question.deadline_s} seconds")
                )
        except BaseException as error:
            question.fail(error)
        else:
            question.finish(value)

    async def _try_functions(self, question: Question, event: Requested, run: Run) -> Any:
        """Send the request; when the function goes away, to the next best one."""
        for _ in range(ATTEMPTS):
            if run.function < 0 and not await self._pool.wait_for_member(MEMBER_TIMEOUT_S):
                break
            if run.function >= 0:
                try:
                    return await self._run_on(question, run)
                except FunctionLostError as error:
                    lost = error
            with self._engine_lock:
                run = reroute(self._state, event)
        else:
            raise lost
        raise FunctionLostError(f"no cache function was alive for {MEMBER_TIMEOUT_S:.0f} seconds")

    async def _run_on(self, question: Question, run: Run) -> Any:
        loop, record = self._pool.loop, question.record
        began = loop.time()
        await self._wait_for_loads(run)
        waited = loop.time() - began
        function = self._pool.functions.get(run.function)
        if function is None:
            raise FunctionLostError(f"cache function {run.function} is not alive")
        record.functions.append(function.name)
        order, extra = self._order(question, run)
        reply = await self._pool.call(run.function, "run", request=order, extra=extra)
        record.fetch_s += waited + reply["fetch_s"]
        record.queue_s += reply["queue_s"]
        record.compute_s += reply["compute_s"]
        record.bytes_moved += reply["bytes_moved"]
        absent = [wire.key_of(values) for values in wire.unpack(reply["absent"])]
        if absent:
            record.hits, record.misses = record.hits - len(absent), record.misses + len(absent)
            self._report_absent(run.function, absent)
        return wire.unpack_result(question.workload.result_type, reply["result"])

    def _report_absent(self, function: int, keys: list[Key]) -> None:
        """Tell the engine what a function lacks, unless it was dropped on purpose while the request was on its way."""
        with self._engine_lock:
            for key in keys:
                (part,) = self._catalogue.key_sets([key])
                if self._state.where(part)[0] == function:
                    self._handle(LoadFailed(function, part, "the function does not hold it"))

    async def _wait_for_loads(self, run: Run) -> None:
        """Wait for the loads that are on their way for this request."""
        generations: set[int] = set()
        with self._engine_lock:
            for _, keys in run.held:
                for _, table, _, rows in self._state.resolve(keys):
                    if table is not None:
                        generations.update(table.generation[rows[~table.ready[rows]]].tolist())
        moves = [self._moves[g] for g in generations if g in self._moves]
        if moves:
            await asyncio.wait(moves)

    def _order(self, question: Question, run: Run) -> tuple[bytes, list[Any]]:
        """The request as plain values: what to run, and for each object where it is."""
        objects: list[list[Any]] = []
        extra: dict[Key, Any] = {}
        for number, part in run.held:
            function = self._pool.functions.get(number)
            peer = "" if number == run.function else function.address if function is not None else None
            objects += self._located(part, peer)
        for part in run.missing:
            objects += self._located(part, None)
            extra.update(self._not_durable(part))
        scope = question.scope
        order = {
            "workload": _path(question.workload), "params": _params(question.workload), "objects": objects,
            "scope": {"job": scope.job, "round": scope.round, "client": scope.client, "rounds": scope.rounds},
            "extra": [wire.key_values(key) for key in extra],
        }  # fmt: skip
        return wire.pack(order), [self._sendable(key, value) for key, value in extra.items()]

    def _located(self, part: KeySet, peer: str | None) -> list[list[Any]]:
        return [[wire.key_values(key), self._catalogue.size(key), peer] for key in self._catalogue.keys(part)]

    def _not_durable(self, part: KeySet) -> dict[Key, Any]:
        """What a function could not find in the persistent store yet; it travels with the request."""
        found: dict[Key, Any] = {}
        for key in self._catalogue.keys(part):
            value = self._rows.get(key.round, {}).get(str(key.client)) if key.kind is Kind.METADATA else self._writer.pending(key)
            if value is not None:
                found[key] = value
        return found

    # --- life -------------------------------------------------------------------------------------------------------

    @property
    def log(self) -> EventLog:
        """Every event that the engine was told, in order, with digests of its decisions."""
        return self._log

    def flush(self) -> None:
        """Wait until all that was ingested is durable and all loads that were decided are done."""
        super().flush()
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0)

    def inventory(self) -> dict[str, list[Key]]:
        """What each living function holds, asked of the functions themselves (not of the index)."""
        self._check_open()

        async def ask() -> dict[str, list[Key]]:
            found = {}
            for number, function in list(self._pool.functions.items()):
                reply = await self._pool.call(number, "inventory")
                found[function.name] = sorted(wire.key_of(values) for values, _, _ in wire.unpack(reply["held"]))
            return found

        result: dict[str, list[Key]] = self._pool.sync(ask())
        return result

    def status(self) -> Status:
        """What the store holds and how requests fared; shows itself in a notebook."""
        with self._engine_lock:
            functions = []
            for number, state in sorted(self._state.functions.items()):
                known = None if self._closed else self._pool.functions.get(number)
                held = self._state.holdings()[number]
                count = {kind: sum(len(c) for slot, c in held.items() if slot[1] is kind) for kind in Kind}
                rounds = sorted({slot[2] for slot in held if slot[1] is Kind.UPDATE})
                name = known.name if known is not None else str(number)
                functions.append(
                    FunctionStatus(
                        name, known is not None, state.capacity_bytes, state.used_bytes, count[Kind.UPDATE],
                        count[Kind.AGGREGATE], count[Kind.METADATA], tuple(rounds),
                    )
                )  # fmt: skip
            return Status.of(self, self._policy.name, tuple(functions), self._writer.pending_bytes, self._tracker.frame())

    def _shut(self, last: Any) -> None:
        pool = getattr(self, "_pool", None)
        try:
            if pool is not None:
                pool.close()
        finally:
            last()

    def __repr__(self) -> str:
        return repr(self.status())

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()


def _packed(keys: list[Key]) -> bytes:
    return wire.pack([wire.key_values(key) for key in keys])


def _path(workload: Any) -> str:
    from flstore import workloads

    return workloads.by_path(type(workload))


def _params(workload: Any) -> dict[str, Any]:
    import dataclasses

    return {f.name: getattr(workload, f.name) for f in dataclasses.fields(workload)}
