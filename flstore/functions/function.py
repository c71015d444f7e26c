"""A cache function: the part that lives in a Dask worker. Holds objects in memory and runs workloads on them.

It is a worker plugin with a message handler of its own, so Dask knows nothing of the data: it is never spilled, moved
or replicated behind our back. Messages carry plain values and buffers (see ``wire``).
"""

# Longer than 300 lines because every message of a cache function is answered here.

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
import uuid
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from distributed import WorkerPlugin
from distributed.core import ConnectionPool
from distributed.protocol import to_serialize

from flstore import codec, parts, tensors
from flstore.errors import CorruptObjectError, FLStoreError, FunctionLostError
from flstore.functions import computing, own_process, wire
from flstore.functions.arriving import Arriving, part_of, part_values, read_stored_part, take_part
from flstore.functions.derived import Derived, what_of
from flstore.functions.desk import ORDERS, Desk
from flstore.functions.lease import Lease
from flstore.functions.memory import SCRATCH_SHARE, Entry, FunctionMemory, cache_bytes
from flstore.functions.window import Borrower, sees
from flstore.persistence.values import read, take
from flstore.types import Cut, Key, Kind, Part
from flstore.workloads._evaluate import kept_bytes
from flstore.workloads.base import Inputs

IO_THREADS = 4
PREFETCH_THREADS = 2
PEER_TIMEOUT_S = 1.0
PEER_BYTES_PER_S = 10e6
"""A peer slower than this may hang; the persistent store is asked instead."""
SHARE_OF_WORKER = 0.6
IDLE_WITHIN_S = 2.0
"""A function that is busy for longer derives nothing ahead: it must not hold up who waits for all to be done."""


def handler_name(namespace: str) -> str:
    """The name of the message handler; one for each store, so that several share a cluster."""
    return f"flstore_{namespace}"


@dataclass(slots=True)
class _Gathered:
    """What a request reads, and how it came by it."""

    data: dict[Key, Any]
    pinned: list[Entry]
    scratch_bytes: int = 0
    bytes_moved: int = 0
    operations: int = 0
    absent: tuple[Key, ...] = ()


class CacheFunction(Desk, WorkerPlugin):
    """Installed on every worker of the pool.

    Parameters
    ----------
    namespace : str
        Distinguishes the stores that share a cluster.
    memory_bytes : int
        Cache and scratch space.
    store_spec : dict
        What :class:`flstore.persistence.ObjectStore` is built from; travels over the cluster's own connections.
    compute_threads : int
        Requests that compute at the same time.
    term : (str, int)
        Lineage and epoch of the writer, see :class:`flstore.persistence.term.Term`.
    lease_s : float, optional
        Without a ping for so many seconds the function lets go of what it holds: its owner died without a word.
    scratch_share : float
        The part of its memory that is kept for requests.
    """

    def __init__(
        self, namespace: str, memory_bytes: int, store_spec: dict[str, Any], compute_threads: int = 1,
        term: tuple[str, int] = ("", 0), lease_s: float | None = None, scratch_share: float = SCRATCH_SHARE,
    ) -> None:  # fmt: skip
        self.name = f"flstore-{namespace}"
        self.namespace = namespace
        self.memory_bytes, self.compute_threads = memory_bytes, compute_threads
        self._spec, self._term, self.lease_s = store_spec, term, lease_s
        self.scratch_share = scratch_share

    @property
    def capacity_bytes(self) -> int:
        """How much of the memory asked for is cache."""
        return cache_bytes(self.memory_bytes, self.scratch_share)

    def setup(self, worker: Any) -> None:
        """Start empty, under a new incarnation token, and answer messages."""
        from flstore.persistence import ObjectStore

        self.worker, self._leaving = worker, False
        self._alone = worker.nanny is not None and self.lease_s is None  # in this process
        if self._alone:
            own_process.collect_seldom()
            own_process.ignore_interrupts()
        self.open_desk(*self._term)
        self.incarnation = uuid.uuid4().hex
        self.borrower = Borrower()
        self.memory = FunctionMemory(min(self.memory_bytes, _room(worker)), scratch_share=self.scratch_share)
        self.memory.ready_bytes = kept_bytes
        self.derived = Derived(self.memory)
        self._running, self._idle = 0, asyncio.Event()
        self._idle.set()
        self.arriving = Arriving()
        self._connections: ConnectionPool | None = None
        self.objects = ObjectStore(**self._spec)
        self.io = ThreadPoolExecutor(IO_THREADS, thread_name_prefix="flstore-io")
        self.prefetch = ThreadPoolExecutor(PREFETCH_THREADS, thread_name_prefix="flstore-prefetch")
        self.compute = ThreadPoolExecutor(self.compute_threads, thread_name_prefix="flstore-compute")
        self.ahead = ThreadPoolExecutor(1, thread_name_prefix="flstore-derive")
        worker.handlers[handler_name(self.namespace)] = self.handle
        self._lease = None if self.lease_s is None else Lease(self.lease_s, self._forget)

    async def teardown(self, worker: Any) -> None:
        """Stop answering, let go of everything."""
        self._leaving = True
        worker.handlers.pop(handler_name(self.namespace), None)
        if self._lease is not None:
            self._lease.cancel()
        if self._connections is not None:
            await self._connections.close()
        self.io.shutdown(wait=False, cancel_futures=True)
        self.prefetch.shutdown(wait=False, cancel_futures=True)
        self.compute.shutdown(wait=False, cancel_futures=True)
        self.ahead.shutdown(wait=False, cancel_futures=True)
        self.memory.entries.clear()

    async def handle(self, what: str, epoch: int | None = None, **message: Any) -> dict[str, Any]:
        """Answer one message; errors travel as plain values."""
        operations: dict[str, Callable[..., Coroutine[Any, Any, dict[str, Any]]]] = {
            "ping": self._ping, "put": self._put, "load": self._load, "copy": self._copy, "drop": self._drop,
            "get": self._get, "run": self._run, "inventory": self._inventory, "weigh": self._weigh,
            "see": self._see, "derive": self._derive, "prepare": self._prepare,
            "put_part": self._put_part, "load_part": self._load_part,
        }  # fmt: skip
        try:
            if epoch is not None and (what in ORDERS or message.get("renew")):
                self.refuse_lower(epoch)
            return {"status": "OK", **await operations[what](**message)}
        except Exception as error:  # ours or a workload's own: the caller must hear of it, the worker must live
            # What fails while it leaves fails because its threads are gone: another function can do it.
            told = FunctionLostError("this cache function is going away") if self._leaving else error
            return {"status": "failed", **wire.error_values(told)}

    # --- what it holds ----------------------------------------------------------------------------------------------

    async def _forget(self) -> None:
        self.incarnation = uuid.uuid4().hex
        await self.memory.clear()

    async def _inventory(self, renew: bool) -> dict[str, Any]:
        """What is here. With `renew`, under a new token: messages meant for the time before do nothing any more."""
        if renew:
            self.incarnation = uuid.uuid4().hex
            self.arriving.clear()
            await self.memory.renew()
        entries = self.memory.entries.values()
        return {
            "incarnation": self.incarnation,
            "derived": len(self.derived),
            # A part counts as nothing here, so that nobody takes it for the whole object.
            "held": wire.pack(
                [[wire.key_values(e.key), e.size_bytes if e.part is None else 0, e.generation] for e in entries]
            ),
        }

    def _check(self, incarnation: str) -> None:
        if incarnation != self.incarnation:
            raise FunctionLostError("the message was meant for an earlier incarnation of this cache function")

    async def _enter(
        self, key: Key, value: Any, size_bytes: int, generation: int, incarnation: str, part: Part | None = None
    ) -> None:
        await self.memory.insert(
            key, value, size_bytes, generation, valid=lambda: incarnation == self.incarnation, part=part
        )
        self._check(incarnation)

    async def _see(self, window: list[Any]) -> dict[str, Any]:
        """Whether objects may come through the window of the store."""
        return {"sees": await self._in_io(sees, window)}

    async def _put(
        self, keys: Any, generation: int, incarnation: str, data: list[Any], window: Any = None
    ) -> dict[str, Any]:
        """Take objects that arrive with the message; with `window`, `data` are places in it and sizes."""
        failed = []
        for values, given in zip(wire.unpack(keys), data, strict=True):
            key = wire.key_of(values)
            try:
                if window is None:
                    value, size = await self._in_io(_take, key, given)
                else:
                    value, size = await self._in_io(self._take_from, window, key, *given)
                await self._enter(key, value, size, generation, incarnation)
            except (FLStoreError, OSError) as error:
                failed.append([values, str(error), type(error).__name__])
        return {"failed": wire.pack(failed)}

    def _take_from(self, window: list[Any], key: Key, at: int, size_bytes: int) -> tuple[Any, int]:
        return take(key, self.borrower.borrow(window, at, size_bytes))

    async def _load(self, keys: Any, generation: int, incarnation: str, background: bool) -> dict[str, Any]:
        """Fetch objects from the persistent store into the cache; a prefetch leaves room for those who wait."""
        wanted = [wire.key_of(values) for values in wire.unpack(keys)]
        threads = self.prefetch if background else self.io

        async def one(key: Key) -> list[Any] | None:
            try:
                value, size = await asyncio.get_running_loop().run_in_executor(threads, read, self.objects, key)
                await self._enter(key, value, size, generation, incarnation)
            except FLStoreError as error:
                return [wire.key_values(key), str(error), type(error).__name__]
            return None

        results = await asyncio.gather(*(one(key) for key in wanted))
        return {"failed": wire.pack([r for r in results if r is not None])}

    async def _copy(self, keys: Any, peers: Any, sizes: Any, generation: int, incarnation: str) -> dict[str, Any]:
        """Take objects from other functions into the cache; answers which of them these did not give."""
        absent = []
        for values, peer, size_bytes in zip(*map(wire.unpack, (keys, peers, sizes)), strict=True):
            key = wire.key_of(values)
            self._check(incarnation)
            value, size = await self._from_peer(key, size_bytes, peer, None) if peer is not None else (None, 0)
            if value is None:
                absent.append(values)
            else:
                await self._enter(key, value, size, generation, incarnation)
        return {"absent": wire.pack(absent)}

    async def _put_part(
        self, keys: Any, generation: int, incarnation: str, part: Any, size_bytes: int, at: int, total: int, data: Any
    ) -> dict[str, Any]:
        """Take the next piece of a part of one object; `size_bytes` is what the part counts for."""
        self._check(incarnation)
        (values,) = wire.unpack(keys)
        key, of = wire.key_of(values), part_of(part)
        try:
            whole = await self._in_io(self.arriving.add, (key, generation), at, total, data)
            if whole is not None:
                update = await self._in_io(take_part, key, of, whole, size_bytes)
                await self._enter(key, update, size_bytes, generation, incarnation, of)
        except FLStoreError as error:
            return {"failed": wire.pack([[values, str(error), type(error).__name__]])}
        return {"failed": wire.pack([])}

    async def _load_part(
        self, keys: Any, generation: int, incarnation: str, part: Any, sizes: list[int], background: bool
    ) -> dict[str, Any]:
        """Read a part of each object from the persistent store into the cache, one after the other."""
        self._check(incarnation)
        threads, of = self.prefetch if background else self.io, Part(part[0], part[1], Cut(part[2]))
        failed = []
        for values, size_bytes in zip(wire.unpack(keys), sizes, strict=True):
            key = wire.key_of(values)
            try:
                value, _ = await asyncio.get_running_loop().run_in_executor(
                    threads, read_stored_part, self.objects, key, of, size_bytes
                )
                await self._enter(key, value, size_bytes, generation, incarnation, of)
            except FLStoreError as error:
                failed.append([values, str(error), type(error).__name__])
        return {"failed": wire.pack(failed)}

    async def _drop(self, keys: Any, generation: int, incarnation: str, settled: int = -1) -> dict[str, Any]:
        self._check(incarnation)
        meant = [wire.key_of(values) for values in wire.unpack(keys)]
        await self.memory.drop(meant, generation, settled, valid=lambda: incarnation == self.incarnation)
        if self._alone:
            await self._in_io(own_process.give_back)
        return {}

    async def _get(self, keys: Any, part: Any = None) -> dict[str, Any]:
        """Hand out what is here, or a part of it, to another function; None where it is not."""
        data: list[Any] = []
        of = part_of(part)
        for values in wire.unpack(keys):
            key = wire.key_of(values)
            entry = self.memory.find(key, of)
            if entry is not None:
                data.append(_give(entry.value))
            elif of is not None and (entry := self.memory.pin_around(key, of)) is not None:
                try:
                    data.append(send_buffer(await self._in_io(parts.cut, entry.value, of)))
                finally:
                    await self.memory.unpin([entry])
            else:
                data.append(None)
        return {"data": data}

    # --- what it runs -----------------------------------------------------------------------------------------------

    async def _run(self, request: Any, extra: list[Any], values: Any = ()) -> dict[str, Any]:
        """Gather what the workload reads, compute in a thread beside the event loop, answer with plain values."""
        order = wire.unpack(request)
        if values:
            order["values"] = wire.unpack(values[0])
        started = time.perf_counter()
        gathered = await self._gather(order, extra)
        ready = time.perf_counter()
        self._running += 1
        self._idle.clear()
        try:
            known = self.derived.known(order) if order.get("piece") else None
            inputs = Inputs(wire.scope_of(order), gathered.data, known)
            result, began, ended, derived = await self._computed(order, inputs)
            derived = derived or (known is not None and known.all_known)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
            await self._let_go(gathered)
        return {
            "result": result, "fetch_s": ready - started, "queue_s": began - ready, "compute_s": ended - began,
            "bytes_moved": gathered.bytes_moved, "absent": wire.pack([wire.key_values(k) for k in gathered.absent]),
            "derived": derived,
            "operations": gathered.operations, "memory_bytes": self.memory.memory_bytes,
        }  # fmt: skip

    async def _computed(self, order: dict[str, Any], inputs: Inputs) -> tuple[bytes, float, float, bool]:
        """The packed result, when it was begun and done, and whether what it needs of the data was derived before."""
        loop = asyncio.get_running_loop()
        if "derivation" not in order:
            return *await loop.run_in_executor(self.compute, computing.answer, order, inputs), False
        begun: list[float] = []

        async def derive() -> dict[str, Any]:
            total, began, _ = await loop.run_in_executor(self.compute, computing.derive, order, inputs)
            begun.append(began)
            return total

        total = await self.derived.get(what_of(order), derive)
        scope, pool = inputs.scope, self.compute
        packed, began, ended = await loop.run_in_executor(pool, computing.finish, order, scope, total)
        return packed, begun[0] if begun else began, ended, not begun

    async def _derive(self, request: Any) -> dict[str, Any]:
        """Compute what a request will need, when nothing else is computed; without anything that it lacks."""
        order = wire.unpack(request)
        try:
            await asyncio.wait_for(self._idle.wait(), IDLE_WITHIN_S)
        except TimeoutError:
            return {}  # who asks meanwhile computes it, and keeps it
        gathered = await self._gather(order, [])
        try:
            if gathered.absent:
                return {"absent": wire.pack([wire.key_values(key) for key in gathered.absent])}
            inputs = Inputs(wire.scope_of(order), gathered.data)
            loop = asyncio.get_running_loop()
            if order.get("piece"):
                await self._derive_pieces(order, inputs)
                return {}

            async def derive() -> dict[str, Any]:
                total, _, _ = await loop.run_in_executor(self.ahead, computing.derive, order, inputs)
                return total

            await self.derived.get(what_of(order), derive)
        finally:
            await self._let_go(gathered)
        return {}

    async def _prepare(self, task: dict[str, Any]) -> dict[str, Any]:
        """Import what evaluations by a task will need."""
        await asyncio.get_running_loop().run_in_executor(self.ahead, computing.prepare, task)
        return {}

    async def _derive_pieces(self, order: dict[str, Any], inputs: Inputs) -> None:
        """One by one, as long as nothing else is computed; goes on after requests that are soon answered."""
        loop, done = asyncio.get_running_loop(), False
        while not done:
            try:
                await asyncio.wait_for(self._idle.wait(), IDLE_WITHIN_S)
            except TimeoutError:
                return
            now = dataclasses.replace(inputs, known=self.derived.known(order))
            done = await loop.run_in_executor(self.ahead, computing.ahead, order, now, lambda: self._running > 0)

    async def _let_go(self, gathered: _Gathered) -> None:
        await self.memory.unpin(gathered.pinned)
        if gathered.scratch_bytes:
            await self.memory.release(gathered.scratch_bytes)

    async def _gather(self, order: dict[str, Any], extra: list[Any]) -> _Gathered:
        """Pin what is here; pull the rest from where the order says into scratch space."""
        sent = {wire.key_of(v): b for v, b in zip(order["extra"], extra, strict=True)}
        of = part_of(order.get("part"))
        found = _Gathered({}, [])
        to_fetch: list[tuple[Key, int, Any, int]] = []
        absent = []
        size = 0
        for values, size_bytes, peer, since in order["objects"]:
            key = wire.key_of(values)
            entry = self.memory.pin(key, of, since)
            if entry is not None:
                found.pinned.append(entry)
                found.data[key] = entry.value
                continue
            if peer == "":  # the engine thought that it is here
                absent.append(key)
            to_fetch.append((key, size_bytes, peer or None, since))
            size += size_bytes
        found.absent = tuple(absent)
        try:
            if to_fetch:
                await self.memory.reserve(size)
                found.scratch_bytes = size
                values_ = await asyncio.gather(
                    *(self._pull(key, n, peer, sent.get(key), of, since) for key, n, peer, since in to_fetch)
                )
                for (key, *_), (value, n) in zip(to_fetch, values_, strict=True):
                    found.data[key] = value
                    found.bytes_moved += n
                    found.operations += n > 0
        except BaseException:
            await self._let_go(found)
            raise
        return found

    async def _pull(
        self, key: Key, size_bytes: int, peer: Any, sent: Any, of: Part | None, since: int
    ) -> tuple[Any, int]:
        """An object, or a part of it, and the bytes that it took: from the message, a peer, peers with its parts, or
        the persistent store."""
        if sent is not None:
            return await self._in_io(_take, key, sent, of)
        if of is not None and (entry := self.memory.pin_around(key, of, since)) is not None:
            try:
                return (await self._in_io(_take, key, await self._in_io(parts.cut, entry.value, of), of))[0], 0
            finally:
                await self.memory.unpin([entry])
        if isinstance(peer, list):
            pieces = await asyncio.gather(*(self._piece(key, size_bytes, at, part_of(part)) for at, part in peer))
            if all(piece is not None for piece, _ in pieces):
                whole = await self._in_io(parts.join, key, [piece for piece, _ in pieces])
                return whole, sum(n for _, n in pieces)
        elif peer is not None:
            value, n = await self._from_peer(key, size_bytes, peer, of)
            if value is not None:
                return value, n
        if of is not None:
            found: tuple[Any, int] = await self._in_io(read_stored_part, self.objects, key, of, size_bytes)
            return found
        return await self._in_io(read, self.objects, key)

    async def _piece(self, key: Key, size_bytes: int, peer: str | None, of: Part | None) -> tuple[Any, int]:
        entry = self.memory.find(key, of)
        if entry is not None:
            return entry.value, 0
        return await self._from_peer(key, size_bytes, peer, of) if peer else (None, 0)

    async def _from_peer(self, key: Key, size_bytes: int, peer: str, of: Part | None) -> tuple[Any, int]:
        """What a peer has of an object, or None: the persistent store has everything."""
        try:
            handler = getattr((await self._peers())(peer), handler_name(self.namespace))
            asked = handler(what="get", keys=wire.pack([wire.key_values(key)]), part=part_values(of))
            reply = await asyncio.wait_for(asked, PEER_TIMEOUT_S + size_bytes / PEER_BYTES_PER_S)
            if reply["status"] == "OK" and reply["data"][0] is not None:
                taken: tuple[Any, int] = await self._in_io(_take, key, reply["data"][0], of)
                return taken
        except (OSError, ValueError, CorruptObjectError):
            pass
        return None, 0

    async def _peers(self) -> ConnectionPool:
        """Connections to other functions, with a short time-out: the persistent store is always there instead."""
        if self._connections is None:
            self._connections = ConnectionPool(
                limit=64, connection_args=self.worker.connection_args, timeout=PEER_TIMEOUT_S
            )
            await self._connections.start()
        return self._connections

    async def _in_io(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.io, function, *args)


def _room(worker: Any) -> int:
    """What a worker can give: where Dask limits its memory, Dask must not see it fill up and pause or kill it."""
    limit = worker.memory_manager.memory_limit
    return int(limit * SHARE_OF_WORKER) if limit else sys.maxsize


def _take(key: Key, buffer: Any, of: Part | None = None) -> tuple[Any, int]:
    """Own what arrived with a message: one aligned copy, verified."""
    if of is not None:
        update = codec.decode(tensors.aligned_copy(buffer, tensors.own_pages), key=key, part=of)
        return update, update.size_bytes
    return take(
        key, wire.unpack(buffer) if key.kind is Kind.METADATA else tensors.aligned_copy(buffer, tensors.own_pages)
    )


def send_buffer(buffer: Any) -> Any:
    """A buffer as Dask sends it without a copy."""
    return to_serialize(memoryview(buffer))


def _give(value: Any) -> Any:
    return send_buffer(value.buffer) if isinstance(value, codec.ClientUpdate) else wire.pack(value)
