"""A reader's way to the functions of a store that another process opened: it asks them, and orders nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from distributed.security import Security

from flstore.errors import ClusterError, FLStoreError, FunctionLostError
from flstore.functions import wire
from flstore.functions.joining import Joining
from flstore.functions.line import REACH_TIMEOUT_S, Line
from flstore.functions.pool import Function, FunctionPool, NotAFunctionError
from flstore.types import Key

MEMBER_DEADLINES = 2
_FILES = {"ca_file": "tls_ca_file", "cert": "tls_client_cert", "key": "tls_client_key"}


def line_of(pool: FunctionPool) -> tuple[str, dict[str, str] | None]:
    """How others reach the cluster of a pool: the scheduler's address, and TLS keys (PEM texts or paths)."""
    client = pool.client
    address = str(client.scheduler.address)  # type: ignore[union-attr]
    if not address.startswith("tls:"):
        return address, None
    config = client.security.get_tls_config_for_role("client")
    found = {name: str(config[role]) for role, name in _FILES.items() if config.get(role)}
    return address, {name: v if "\n" in v else os.path.abspath(v) for name, v in found.items()}


class _NothingToInstall(Joining):
    """The writer makes the functions, and ends them."""

    async def prepare(self, address: str) -> None:
        """Nothing."""

    async def remove(self, addresses: Iterable[str]) -> None:
        """Nothing."""


class ReaderPool(FunctionPool):
    """The functions of somebody else's store. It installs nothing, renews nothing and ends nothing.

    Parameters
    ----------
    address : str
        Of the scheduler.
    tls : dict or None
        See :func:`line_of`.
    namespace : str
        Of the store.
    ping_deadline_s : float
        As the writer's.
    """

    def __init__(self, address: str, tls: Mapping[str, str] | None, namespace: str, ping_deadline_s: float) -> None:
        line: Any = Line(address, Security(require_encryption=True, **tls) if tls else Security())
        super().__init__(line, None, 0, {}, lambda *_: None, lambda _: None, ping_deadline_s)
        self.namespace = namespace
        self.reachable = True

    def start(self) -> None:
        """Find the functions, and begin to watch who comes and goes.

        Raises
        ------
        ClusterError
            The scheduler does not answer, or no function of this store is there.
        """
        try:
            self.sync(self._start(), REACH_TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            raise ClusterError(f"the cluster of the store does not answer: {error}") from error
        if not self.functions:
            raise ClusterError("the cluster answers, but no cache function of this store is there")

    def close(self) -> None:
        """Stop watching and disconnect."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(Exception):
            self.sync(self._stop(), REACH_TIMEOUT_S)
        self.client.close()

    async def _workers(self) -> dict[str, Any]:
        try:
            return await asyncio.wait_for(super()._workers(), REACH_TIMEOUT_S)
        except ValueError as error:  # tornado, when the scheduler dies during the TLS handshake
            raise OSError(f"the scheduler does not answer: {error}") from error

    async def _send(self, address: str, what: str, message: dict[str, Any]) -> dict[str, Any]:
        try:
            return await super()._send(address, what, message)
        except NotAFunctionError as error:  # the writer has closed its store
            self.reachable = False
            raise FunctionLostError("the cache function of this store is not there any more") from error

    def _way_in(self) -> Joining:
        return _NothingToInstall(self._rpc, self._plugin, self._deadline_s, foreign=True)

    async def wait_for_member(self, timeout: float) -> bool:
        return self.reachable and await super().wait_for_member(min(timeout, MEMBER_DEADLINES * self._deadline_s))

    async def _welcome(self, address: str, name: str, number: int) -> None:
        if not self.reachable:
            raise OSError("the store was closed")
        state = await self._send(address, "ping", {})
        old = self.functions.get(number)
        if old is not None:
            self._bury(old)
        function = Function(number, name, address, state["incarnation"], state["capacity_bytes"], state["pid"])
        function.heard_s = self.loop.time()
        self.functions[number] = function
        self._members_changed.set()
        pinger = asyncio.ensure_future(self._ping(function))
        self._pingers.add(pinger)
        pinger.add_done_callback(self._pingers.discard)

    # --- asking -----------------------------------------------------------------------------------------------------

    async def ask(self, what: str, each: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
        """Ask several functions at once; those that fall silent before they answer are left out."""

        async def one(number: int) -> dict[str, Any] | None:
            function = self.functions.get(number)
            if function is None:
                return None
            asking = asyncio.ensure_future(self.call(number, what, **each[number]))
            silence = asyncio.ensure_future(function.silent.wait())
            try:
                await asyncio.wait([asking, silence], timeout=REACH_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
                return asking.result() if asking.done() else None
            except (OSError, ValueError, FLStoreError):
                return None
            finally:
                asking.cancel()
                silence.cancel()

        replies = await asyncio.gather(*(one(number) for number in each))
        return {number: reply for number, reply in zip(each, replies, strict=True) if reply is not None}

    def answering(self) -> list[int]:
        """Numbers of the functions that answer at the moment."""
        return sorted(self.functions.keys() - self.silent())

    async def weigh(self, keys: Sequence[Key], asked: Any = None) -> tuple[dict[int, np.ndarray], dict[str, Any]]:
        """Ask all functions which of `keys` they hold; `asked` is a request that the writer is to hear of.

        Returns
        -------
        sizes : dict of int to ndarray of int64
            For each function that answered: bytes of each object, -1 for those that it does not hold.
        news : dict
            The writer's latest news (see :class:`flstore.news.News`), empty when there are none.
        """
        packed = wire.pack([wire.key_values(key) for key in keys])
        messages: dict[int, dict[str, Any]] = {number: {"keys": packed} for number in self.answering()}
        if asked is not None and messages:
            messages[min(messages)]["asked"] = wire.pack(asked)
        replies = await self.ask("weigh", messages)
        told = [wire.unpack(reply["news"]) for reply in replies.values() if reply["news"]]
        news: dict[str, Any] = max(told, key=lambda n: n["version"], default={})
        return {number: wire.unpack(reply["sizes"]) for number, reply in replies.items()}, news

    async def holdings(self) -> dict[Key, int]:
        """Everything that the functions hold, with its bytes."""
        return {key: size for held in (await self.inventories()).values() for key, size in held.items()}

    async def inventories(self) -> dict[int, dict[Key, int]]:
        """What each function holds, with its bytes; without those that do not answer."""
        replies = await self.ask("inventory", {number: {"renew": False} for number in self.answering()})
        return {
            number: {wire.key_of(values): size for values, size, _ in wire.unpack(reply["held"])}
            for number, reply in replies.items()
        }

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Ask from another thread, and wait for the answer."""
        return self.sync(coroutine, 3 * REACH_TIMEOUT_S)

    async def fetch(self, key: Key) -> Any:
        """The bytes (or metadata row) of an object from a function that holds it, None when none does."""
        sizes, _ = await self.weigh([key])
        for number, size in sizes.items():
            if size[0] >= 0:
                replies = await self.ask("get", {number: {"keys": wire.pack([wire.key_values(key)])}})
                if number in replies and replies[number]["data"][0] is not None:
                    return replies[number]["data"][0]
        return None
