"""How workers become cache functions: given the plugin one by one, and freed of it, without waiting for one that hangs.

The scheduler's own way of installing a plugin waits for every worker, and for a store that died it would install that
on new workers for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from distributed.core import ConnectionPool
from distributed.protocol.pickle import dumps  # how Dask itself sends a plugin

from flstore.errors import ClusterError
from flstore.functions.clusters import check_versions
from flstore.functions.function import CacheFunction
from flstore.functions.within import within

INSTALL_S = 30.0
"""How long a worker that answers may take to import this package and start its function."""
REMOVE_S = 2.0


class Joining:
    """Puts a plugin on workers and takes it off again. Used on the event loop alone.

    Parameters
    ----------
    rpc : ConnectionPool
        Connections to the workers.
    plugin : CacheFunction
        What they get.
    answer_s : float
        How long a worker may take to answer at all.
    foreign : bool
        Somebody else started the workers: they may run other versions.
    """

    def __init__(self, rpc: ConnectionPool, plugin: CacheFunction, answer_s: float, foreign: bool) -> None:
        self._rpc = rpc
        self._plugin = plugin
        self._answer_s = answer_s
        self._foreign = foreign
        self._installed: dict[str, str] = {}

    async def prepare(self, address: str) -> None:
        """Make sure that the worker has the plugin; a restarted one at the same address gets it anew.

        Raises
        ------
        OSError
            The worker does not answer.
        ClusterError
            It cannot run the function: it has other versions, or its set-up failed.
        """
        worker = str((await self._ask(address, "identity", self._answer_s))["id"])
        if self._installed.get(address) == worker:
            return
        if self._foreign:
            versions = await self._ask(address, "versions", INSTALL_S, packages=["flstore"])
            check_versions({address: versions["packages"]})
        try:
            plugin = dumps(self._plugin)
            reply = await self._ask(address, "plugin-add", INSTALL_S, plugin=plugin, name=self._plugin.name)
        except OSError:
            raise
        except Exception as error:  # what the worker raised while it read the plugin
            raise ClusterError(
                f"worker {address} cannot become a cache function: {type(error).__name__}: {error}"
            ) from error
        if reply["status"] != "OK":
            raise ClusterError(f"worker {address} cannot become a cache function: {reply.get('exception_text')}")
        self._installed[address] = worker

    def forget(self, address: str) -> None:
        """Note that the plugin is gone from there."""
        self._installed.pop(address, None)

    async def remove(self, addresses: Iterable[str]) -> None:
        """Free workers of the plugin. One that hangs keeps it, and frees its memory when its lease ends."""

        async def one(address: str) -> None:
            with contextlib.suppress(Exception):
                await self._ask(address, "plugin-remove", REMOVE_S, name=self._plugin.name)

        await asyncio.gather(*(one(address) for address in addresses))

    async def _ask(self, address: str, what: str, timeout: float, **message: Any) -> Any:
        return await within(getattr(self._rpc(address), what)(**message), timeout)
