"""The client side of the pool: starts a Dask cluster, sends messages to functions, notices who comes and goes."""

# Longer than 300 lines because coming, answering, falling silent and going change one table, on one event loop.

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
import warnings
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, LocalCluster
from distributed.core import ConnectionPool

from flstore.errors import ClusterError, FunctionLostError
from flstore.functions import wire
from flstore.functions.clusters import closed, resize
from flstore.functions.dashboard import dashboard_of
from flstore.functions.function import SCRATCH_SHARE, CacheFunction, handler_name, send_buffer
from flstore.functions.joining import Joining
from flstore.functions.line import Line
from flstore.functions.telling import Telling
from flstore.functions.waiters import Waiters, finish
from flstore.functions.window import WORTH_BYTES, Window, open_window
from flstore.functions.within import within

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
RETRY_S = 0.02
NOTICED_S = 0.2
"""The scheduler hears of a dead worker a moment after those whose connections to it end."""
PATIENCE_S = 60.0
"""How long a function that the scheduler still lists may be too busy to take a message."""
WATCH_PERIOD_S = 0.5
PING_DEADLINE_S = 2.0
"""Without an answer for so long a function is suspected: requests go elsewhere, until it answers again."""
LOST_AFTER_DEADLINES = 5
"""After so many deadlines of silence its data counts as lost, and is loaded elsewhere."""
START_TIMEOUT_S = 60.0
SCHEDULER_S = 5.0
LEASE_S = 60.0
RUNS_AT_A_TIME = 64
"""Requests at a function at the same time; each takes a connection, and the others wait here."""
MOVES_AT_A_TIME = 16
"""The same of messages that bring it data: a function that comes back may be sent hundreds at once."""
MOVES = frozenset({"put", "load", "copy", "put_part", "load_part"})
"""They may wait for the room that a drop makes, so a drop does not wait for them."""


@dataclass(slots=True, eq=False)
class Function:
    """A cache function as the pool knows it; `silent` is set while it misses pings, `gone` when it was given up."""

    number: int
    name: str
    address: str
    incarnation: str
    capacity_bytes: int
    pid: int
    silent: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    heard_s: float = 0.0
    running: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(RUNS_AT_A_TIME))
    moving: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOVES_AT_A_TIME))
    replies: Waiters = field(default_factory=Waiters)
    sees_window: bool | None = None


class NotAFunctionError(ConnectionError):
    """A worker answers that has no function of this store: it was restarted at the same address."""


class FunctionPool:
    """Cache functions on a Dask cluster.

    Parameters
    ----------
    client : Client or Line
        Connected to the cluster; closed with the pool.
    cluster : LocalCluster or None
        The cluster when it is ours, to be closed with the pool; None for one that somebody else runs.
    memory_bytes : int
        Memory of one function.
    store_spec : dict
        The persistent store that functions load from.
    joined, lost : callable
        Called on the event loop's thread with the :class:`Function` that came or went (`joined`: and what it holds).
    ping_deadline_s : float
        Seconds in which a keep-alive ping must be answered.
    compute_threads : int
        Requests that a function computes at a time.
    telling : Telling
        The writer's term, and word to and from readers.
    lease_s : float
        Seconds without any ping after which a function of somebody else's cluster frees the memory that it lent.
    scratch_share : float
        The part of a function's memory that is kept for requests.
    """

    def __init__(
        self,
        client: Client | Line,
        cluster: LocalCluster | None,
        memory_bytes: int,
        store_spec: dict[str, Any],
        joined: Callable[[Function, list[Any]], None],
        lost: Callable[[Function], None],
        ping_deadline_s: float = PING_DEADLINE_S,
        compute_threads: int = 1,
        telling: Telling = Telling(),  # noqa: B008 (has no state)
        lease_s: float = LEASE_S,
        scratch_share: float = SCRATCH_SHARE,
    ) -> None:
        self.cluster = cluster
        self.namespace = uuid.uuid4().hex[:12]
        self.functions: dict[int, Function] = {}
        self._numbers: dict[str, int] = {}
        self._joined, self._lost = joined, lost
        self._deadline_s, self._closing = ping_deadline_s, False
        self.news = Waiters()
        self._pingers: set[asyncio.Task[None]] = set()
        self._resizes: set[asyncio.Task[None]] = set()
        self._wanted = len(cluster.workers) if cluster is not None else 0
        self.client, self.telling = client, telling
        lent_s = lease_s if cluster is None else None
        self._plugin = CacheFunction(
            self.namespace,
            memory_bytes,
            store_spec,
            compute_threads,
            term=telling.term,
            lease_s=lent_s,
            scratch_share=scratch_share,
        )
        self._welcoming: dict[str, asyncio.Task[None]] = {}
        self._refused: set[str] = set()
        self._listing: asyncio.Task[dict[str, Any]] | None = None
        self.dashboard = ""
        self.loop: asyncio.AbstractEventLoop = self.client.loop.asyncio_loop  # type: ignore[union-attr]

    def start(self) -> None:
        """Make every worker that answers a function, and begin to watch who comes and goes.

        Raises
        ------
        ClusterError
            A worker runs other versions, or cannot run a function.
        """
        self.sync(self._start())

    # --- from any thread --------------------------------------------------------------------------------------------

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the pool's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def sync(self, coroutine: Coroutine[Any, Any, Any], timeout: float = START_TIMEOUT_S) -> Any:
        """Run a coroutine on the pool's event loop and wait for it."""
        return self.submit(coroutine).result(timeout)

    def resize(self, count: int, leaving: Collection[Function] = (), timeout: float = START_TIMEOUT_S) -> None:
        """Have `count` functions, without those that are `leaving`; returns when they have come and gone.

        Raises
        ------
        ClusterError
            The cluster is not ours, or it did not get there in time.
        """
        if self.cluster is None:
            raise ClusterError(
                "these functions belong to a Dask cluster that somebody else runs: add or remove its workers there; "
                "the store uses those that join, and does without those that leave"
            )
        self._wanted = count
        try:
            self.sync(self._resized(count, leaving), timeout)
        except TimeoutError:
            raise ClusterError(
                f"the cluster has {len(self.functions)} functions, not {count}, after {timeout} s"
            ) from None

    async def _resize(self, count: int, leaving: Collection[str] = ()) -> None:
        """To its end, also when nobody waits any more: a worker half started would be known to nobody."""
        assert self.cluster is not None
        task = asyncio.ensure_future(resize(self.cluster, count, leaving))
        self._resizes.add(task)
        task.add_done_callback(self._resizes.discard)
        await asyncio.shield(task)

    async def _resized(self, count: int, leaving: Collection[Function]) -> None:
        await self._resize(count, [f.address for f in leaving])
        while True:
            with contextlib.suppress(OSError):
                await self._look()
            if len(self.functions) == count and not set(leaving) & set(self.functions.values()):
                return
            await asyncio.sleep(RETRY_S)

    def close(self) -> None:
        """Stop watching, disconnect, stop the cluster."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(Exception):  # nothing that fails here may keep the processes alive
            self.sync(self._stop(), 30)
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)
        if self.cluster is not None:
            self.cluster.close()

    # --- on the event loop ------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        # Pings have connections of their own: however much is on its way, they must not wait for its end.
        self._rpc, self._pings = (
            ConnectionPool(limit=512, connection_args=self.client.connection_args, timeout=CONNECT_TIMEOUT_S)
            for _ in range(2)
        )
        await asyncio.gather(self._rpc.start(), self._pings.start())
        self.window = open_window()
        self._joining = self._way_in()
        self._members_changed = asyncio.Event()
        await self._look()
        joining = list(self._welcoming.values())  # one that is refused leaves the dictionary, and is raised here
        if self.cluster is None:  # ours has no status pages
            self.dashboard = await dashboard_of(self.client.scheduler)
        await asyncio.gather(*joining)
        until = self.loop.time() + START_TIMEOUT_S / 2
        while self.cluster is not None and len(self.functions) < self._wanted and self.loop.time() < until:
            await asyncio.sleep(RETRY_S)  # one did not answer in time, on a busy machine
            await self._look()
            await asyncio.gather(*self._welcoming.values())
        self._watcher = asyncio.ensure_future(self._watch())

    def _way_in(self) -> Joining:
        """How workers become functions of this pool."""
        return Joining(self._rpc, self._plugin, self._deadline_s, foreign=self.cluster is None)

    async def _stop(self) -> None:
        watcher = getattr(self, "_watcher", None)
        tasks = [*self._pingers, *self._welcoming.values(), *([] if watcher is None else [watcher])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._resizes, return_exceptions=True)
        if hasattr(self, "_joining"):
            if self.cluster is None:
                await self._joining.remove(function.address for function in self.functions.values())
            await asyncio.gather(self._rpc.close(), self._pings.close())
            if self.window is not None:
                await self.window.close()

    async def call(self, number: int, what: str, incarnation: str | None = None, **message: Any) -> dict[str, Any]:
        """Send a message to a function (if given, to this incarnation only) and return its reply.

        Raises
        ------
        FunctionLostError
            It went away; `lost` was called before this is raised.
        FLStoreError
            What the function raised.
        """
        deadline = self.loop.time() + PATIENCE_S
        while True:
            function = self.functions.get(number)
            if function is None or incarnation not in (None, function.incarnation):
                raise FunctionLostError(f"cache function {number} is not alive")
            try:
                more = {} if incarnation is None else {"incarnation": incarnation}
                async with function.moving if what in MOVES else contextlib.nullcontext():
                    reply = await self._send_while_there(function, what, {**message, **more})
                break
            except FunctionLostError:
                raise
            except (OSError, ValueError) as error:  # tornado: ValueError when a peer dies during the TLS handshake
                # A busy process may miss a connect deadline; only the scheduler knows whether the worker is gone.
                if not await self._stays_listed(function):
                    if self.functions.get(number) is function:
                        self._bury(function)
                    raise FunctionLostError(f"cache function {function.name!r} went away: {error}") from error
                if self.loop.time() > deadline:
                    raise FunctionLostError(f"cache function {function.name!r} cannot be reached: {error}") from error
                await asyncio.sleep(RETRY_S)
        if reply["status"] != "OK":
            raise wire.error_of(reply)
        return reply

    async def put(self, number: int, incarnation: str, buffer: Any, **message: Any) -> dict[str, Any]:
        """Send one object: through the window to a function on this machine, otherwise in the message."""
        size = memoryview(buffer).nbytes
        window = await self._window_of(number) if size >= WORTH_BYTES else None
        if window is not None:
            async with window.lend(number, buffer) as at:
                if at is not None:
                    there = {"data": [(at, size)], "window": window.where}
                    return await self.call(number, "put", incarnation, **there, **message)
        return await self.call(number, "put", incarnation, data=[send_buffer(buffer)], **message)

    async def _window_of(self, number: int) -> Window | None:
        function = self.functions.get(number)
        if self.window is None or function is None:
            return None
        if function.sees_window is None:
            reply = await self.call(number, "see", window=self.window.where)
            function.sees_window = reply["sees"]
        return self.window if function.sees_window else None

    async def _send(self, address: str, what: str, message: dict[str, Any]) -> dict[str, Any]:
        rpc = self._pings if what == "ping" else self._rpc
        handler = getattr(rpc(address), handler_name(self.namespace))
        reply: dict[str, Any] | None = await handler(what=what, **self.telling.stamp, **message)
        if reply is None:
            raise NotAFunctionError(f"the worker at {address} is no cache function of this store")
        return reply

    async def _send_while_there(self, function: Function, what: str, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message, and stop waiting for the reply when the function is given up, even if it comes back."""
        if function.gone.is_set():
            raise FunctionLostError(f"cache function {function.name!r} was given up: it does not answer")
        sending = asyncio.ensure_future(self._send(function.address, what, message))
        with function.replies.waiter() as over:
            sending.add_done_callback(lambda _: finish(over))
            try:
                await over
                if not sending.done():
                    raise FunctionLostError(f"cache function {function.name!r} was given up: it does not answer")
                return sending.result()
            finally:
                sending.cancel()

    async def _workers(self) -> dict[str, Any]:
        """What the scheduler says of its workers; who asks while it is being asked gets the same answer."""
        if self._listing is None:
            self._listing = asyncio.ensure_future(self._list_workers())
            self._listing.add_done_callback(self._listed)
        return await asyncio.shield(self._listing)

    def _listed(self, listing: asyncio.Task[dict[str, Any]]) -> None:
        self._listing = None
        listing.cancelled() or listing.exception()  # it was raised to those who waited, if there are any left

    async def _list_workers(self) -> dict[str, Any]:
        asked = self.client.scheduler.identity(n_workers=-1)  # type: ignore[union-attr]
        identity = await within(asked, SCHEDULER_S)
        workers: dict[str, Any] = identity["workers"]
        return workers

    async def _is_listed(self, function: Function) -> bool:
        try:
            return function.address in await self._workers()
        except OSError:
            return False

    async def _stays_listed(self, function: Function) -> bool:
        """Whether the scheduler still lists it after a moment in which it would have noticed that it is gone."""
        until = self.loop.time() + NOTICED_S
        while await self._is_listed(function):
            if self.loop.time() > until:
                return True
            await asyncio.sleep(RETRY_S)
        return False

    def _bury(self, function: Function) -> None:
        if self.functions.get(function.number) is function:
            del self.functions[function.number]
            function.silent.set()
            function.gone.set()
            function.replies.wake()
            self._lost(function)
            self.news.wake()

    async def _watch(self) -> None:
        while not self._closing:
            await asyncio.sleep(WATCH_PERIOD_S)
            try:
                await self._look()
                if self.cluster is not None and len(self.cluster.workers) - len(closed(self.cluster)) < self._wanted:
                    await self._resize(self._wanted)  # one closed for good: it had lost the scheduler
            except OSError:
                continue  # the scheduler does not answer at the moment
            except Exception:  # whatever it is, those who come and go must be noticed again
                _log.exception("could not compare the cluster's workers with the functions")

    async def _look(self) -> None:
        """Compare the scheduler's workers with the functions that we know."""
        workers = await self._workers()
        for function in list(self.functions.values()):
            if function.address not in workers:
                self._bury(function)
        before: asyncio.Task[None] | None = None
        for address, worker in sorted(workers.items(), key=lambda item: str(item[1]["name"])):
            if address not in self._welcoming and not any(f.address == address for f in self.functions.values()):
                name = f"function-{worker['name']}"
                number = self._numbers.setdefault(name, len(self._numbers))
                before = asyncio.ensure_future(self._let_in(address, name, number, before))
                self._welcoming[address] = before

    async def _let_in(self, address: str, name: str, number: int, before: asyncio.Task[None] | None) -> None:
        """Prepare a worker, beside the others, and welcome it after those `before` it.

        One that is still starting, or hangs, is found by a later look.
        """
        try:
            await self._joining.prepare(address)
            if before is not None:
                await asyncio.wait([before])
            await within(self._welcome(address, name, number), self._deadline_s)
        except NotAFunctionError:
            self._joining.forget(address)
        except ClusterError as error:
            if not hasattr(self, "_watcher"):
                raise
            if address not in self._refused:
                self._refused.add(address)
                warnings.warn(f"{error}; it is not used", RuntimeWarning, stacklevel=2)
        except (OSError, ValueError, KeyError):
            pass
        except RuntimeError:
            if not self._closing:  # otherwise the connections were closed under it
                raise
        finally:
            self._welcoming.pop(address, None)

    async def _welcome(self, address: str, name: str, number: int) -> None:
        state = await self._send(address, "ping", {})
        reply = await self._send(address, "inventory", {"renew": True})
        held = wire.unpack(reply["held"])
        old = self.functions.get(number)
        if old is not None:
            self._bury(old)
        if state["capacity_bytes"] < self._plugin.capacity_bytes:
            warnings.warn(
                f"worker {name} has room for a cache of {state['capacity_bytes']} bytes only, of the "
                f"{self._plugin.capacity_bytes} bytes asked for",
                RuntimeWarning,
                stacklevel=2,
            )
        function = Function(number, name, address, reply["incarnation"], state["capacity_bytes"], state["pid"])
        function.heard_s = self.loop.time()
        self.functions[number] = function
        self._joined(function, held)
        self._members_changed.set()
        self.news.wake()
        pinger = asyncio.ensure_future(self._ping(function))
        self._pingers.add(pinger)
        pinger.add_done_callback(self._pingers.discard)

    async def _ping(self, function: Function) -> None:
        """Keep-alive (section 4.5): notice when a function falls silent, and when it answers again."""
        while not self._closing and self.functions.get(function.number) is function:
            try:
                sent = self._send(function.address, "ping", self.telling.message())
                left_s = function.heard_s + self._deadline_s - self.loop.time()
                state = await within(sent, max(left_s, self._deadline_s / 4))
                self.telling.heard(state)
                if state["incarnation"] != function.incarnation:  # another process, or its lease ended
                    self._bury(function)
                    return
                function.heard_s = self.loop.time()
                if function.silent.is_set():
                    function.silent.clear()
                    self._members_changed.set()
                    self.news.wake()
            except NotAFunctionError:
                self._bury(function)
                return
            except (OSError, ValueError):
                if self.loop.time() - function.heard_s >= self._deadline_s:
                    function.silent.set()
                    self.news.wake()
                if self.loop.time() - function.heard_s >= LOST_AFTER_DEADLINES * self._deadline_s:
                    if self.functions.get(function.number) is function:
                        self._bury(function)
                    return
            await asyncio.sleep(self._deadline_s / 4)

    def silent(self) -> frozenset[int]:
        """Numbers of the functions that do not answer at the moment."""
        return frozenset(number for number, function in list(self.functions.items()) if function.silent.is_set())

    async def wait_for_member(self, timeout: float) -> bool:
        """Wait until a function answers; False when none did in time."""
        deadline = self.loop.time() + timeout
        while not self.functions.keys() - self.silent():
            left = deadline - self.loop.time()
            if left <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                await within(self.change(), left)
        return True

    async def change(self) -> None:
        """Wait until a function joins, or one that was silent answers again."""
        self._members_changed.clear()
        await self._members_changed.wait()
