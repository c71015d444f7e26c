"""The client side of the pool: starts a Dask cluster, sends messages to functions, notices who comes and goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
import warnings
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, LocalCluster
from distributed.core import ConnectionPool

from flstore.errors import FunctionLostError
from flstore.functions import wire
from flstore.functions.function import SCRATCH_SHARE, CacheFunction, handler_name

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
RETRY_S = 0.02
PATIENCE_S = 60.0
"""How long a function that the scheduler still lists may be too busy to take a message."""
WATCH_PERIOD_S = 0.5
PING_DEADLINE_S = 2.0
"""Without an answer for so long a function is suspected: requests go elsewhere, until it answers again."""
LOST_AFTER_DEADLINES = 5
"""After so many deadlines of silence its data counts as lost, and is loaded elsewhere."""
START_TIMEOUT_S = 60.0


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


class FunctionPool:
    """Cache functions on a Dask cluster.

    Parameters
    ----------
    client : Client
        Connected to the cluster; closed with the pool.
    cluster : LocalCluster or None
        The cluster when it is ours, to be closed with the pool; None for one that somebody else runs.
    memory_bytes : int
        Memory of one function.
    store_spec : dict
        The persistent store that functions load from.
    joined, lost : callable
        Called on the event loop's thread with the :class:`Function` that came or went (and, for `joined`, what it
        holds).
    ping_deadline_s : float
        Seconds in which a keep-alive ping must be answered.
    scratch_share : float
        The part of a function's memory that is kept for requests.
    """

    def __init__(
        self,
        client: Client,
        cluster: LocalCluster | None,
        memory_bytes: int,
        store_spec: dict[str, Any],
        joined: Callable[[Function, list[Any]], None],
        lost: Callable[[Function], None],
        ping_deadline_s: float = PING_DEADLINE_S,
        scratch_share: float = SCRATCH_SHARE,
    ) -> None:
        self.cluster = cluster
        self.namespace = uuid.uuid4().hex[:12]
        self.functions: dict[int, Function] = {}
        self._numbers: dict[str, int] = {}
        self._joined, self._lost = joined, lost
        self._deadline_s = ping_deadline_s
        self._pingers: set[asyncio.Task[None]] = set()
        self._closing = False
        self._plugin = CacheFunction(self.namespace, memory_bytes, store_spec, scratch_share=scratch_share)
        self.client = client
        self.loop: asyncio.AbstractEventLoop = self.client.loop.asyncio_loop  # type: ignore[union-attr]

    def start(self) -> None:
        """Install the function on every worker, now and later, and begin to watch who comes and goes."""
        self.client.register_plugin(self._plugin)
        self.sync(self._start())

    # --- from any thread --------------------------------------------------------------------------------------------

    def submit(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine on the pool's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def sync(self, coroutine: Coroutine[Any, Any, Any], timeout: float = START_TIMEOUT_S) -> Any:
        """Run a coroutine on the pool's event loop and wait for it."""
        return self.submit(coroutine).result(timeout)

    def close(self) -> None:
        """Stop watching, disconnect, stop the cluster."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(Exception):  # nothing that fails here may keep the processes alive
            self.sync(self._stop(), 10)
        if self.cluster is None:
            with contextlib.suppress(Exception):
                self.client.unregister_worker_plugin(self._plugin.name)
        with contextlib.suppress(Exception):
            self.client.close(timeout=5)
        if self.cluster is not None:
            self.cluster.close()

    # --- on the event loop ------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._rpc = ConnectionPool(limit=512, connection_args=self.client.connection_args, timeout=CONNECT_TIMEOUT_S)
        await self._rpc.start()
        self._members_changed = asyncio.Event()
        await self._look()
        self._watcher = asyncio.ensure_future(self._watch())

    async def _stop(self) -> None:
        watcher = getattr(self, "_watcher", None)
        if watcher is not None:
            tasks = [watcher, *self._pingers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if hasattr(self, "_rpc"):
            await self._rpc.close()

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
                reply = await self._send_while_there(function, what, {**message, **more})
                break
            except FunctionLostError:
                raise
            except (OSError, ValueError) as error:  # tornado: ValueError when a peer dies during the TLS handshake
                # A busy process may miss a connect deadline; only the scheduler knows whether the worker is gone.
                if not await self._is_listed(function):
                    if self.functions.get(number) is function:
                        self._bury(function)
                    raise FunctionLostError(f"cache function {function.name!r} went away: {error}") from error
                if self.loop.time() > deadline:
                    raise FunctionLostError(f"cache function {function.name!r} cannot be reached: {error}") from error
                await asyncio.sleep(RETRY_S)
        if reply["status"] != "OK":
            raise wire.error_of(reply)
        return reply

    async def _send(self, address: str, what: str, message: dict[str, Any]) -> dict[str, Any]:
        handler = getattr(self._rpc(address), handler_name(self.namespace))
        reply: dict[str, Any] = await handler(what=what, **message)
        return reply

    async def _send_while_there(self, function: Function, what: str, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message, and stop waiting for the reply when the function is given up, even if it comes back."""
        sending = asyncio.ensure_future(self._send(function.address, what, message))
        gone = asyncio.ensure_future(function.gone.wait())
        try:
            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                raise FunctionLostError(f"cache function {function.name!r} was given up: it does not answer")
            return sending.result()
        finally:
            sending.cancel()
            gone.cancel()

    async def _workers(self) -> dict[str, Any]:
        identity = await self.client.scheduler.identity(n_workers=-1)  # type: ignore[union-attr]
        workers: dict[str, Any] = identity["workers"]
        return workers

    async def _is_listed(self, function: Function) -> bool:
        try:
            return function.address in await self._workers()
        except OSError:
            return False

    def _bury(self, function: Function) -> None:
        if self.functions.get(function.number) is function:
            del self.functions[function.number]
            function.silent.set()
            function.gone.set()
            self._lost(function)

    async def _watch(self) -> None:
        while not self._closing:
            await asyncio.sleep(WATCH_PERIOD_S)
            try:
                await self._look()
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
        for address, worker in sorted(workers.items(), key=lambda item: str(item[1]["name"])):
            known = any(f.address == address for f in self.functions.values())
            if known:
                continue
            try:
                await asyncio.wait_for(self._welcome(address, f"function-{worker['name']}"), self._deadline_s)
            except (OSError, ValueError, KeyError):
                continue  # still starting, or hung; a later look finds it

    async def _welcome(self, address: str, name: str) -> None:
        state = await self._send(address, "ping", {})
        reply = await self._send(address, "inventory", {"renew": True})
        held = wire.unpack(reply["held"])
        number = self._numbers.setdefault(name, len(self._numbers))
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
        pinger = asyncio.ensure_future(self._ping(function))
        self._pingers.add(pinger)
        pinger.add_done_callback(self._pingers.discard)

    async def _ping(self, function: Function) -> None:
        """Keep-alive (section 4.5): notice when a function falls silent, and when it answers again."""
        while not self._closing and self.functions.get(function.number) is function:
            try:
                await asyncio.wait_for(self._send(function.address, "ping", {}), self._deadline_s)
                function.heard_s = self.loop.time()
                if function.silent.is_set():
                    function.silent.clear()
                    self._members_changed.set()
            except (OSError, ValueError):
                if self.loop.time() - function.heard_s >= self._deadline_s:
                    function.silent.set()
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
                await asyncio.wait_for(self.change(), left)
        return True

    async def change(self) -> None:
        """Wait until a function joins, or one that was silent answers again."""
        self._members_changed.clear()
        await self._members_changed.wait()
