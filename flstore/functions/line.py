"""A line to the scheduler of a cluster that somebody else runs; it goes on when the scheduler is started anew.

Not a Dask client: that one closes for good when it loses its scheduler for a few seconds, and its event loop with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import SimpleNamespace
from typing import Any

from distributed.core import ConnectionPool
from distributed.security import Security

REACH_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 1.0


class Line:
    """What a pool needs of a Dask client: an event loop, and a scheduler to ask. Each question connects if need be.

    Parameters
    ----------
    address : str
        Of the scheduler.
    security : Security
        For TLS.
    """

    def __init__(self, address: str, security: Security) -> None:
        self.security = security
        self.connection_args = security.get_connection_args("client")
        loop = asyncio.new_event_loop()
        self.loop = SimpleNamespace(asyncio_loop=loop)
        self._thread = threading.Thread(target=loop.run_forever, name="flstore-line", daemon=True)
        self._thread.start()
        self.scheduler: Any = None
        asyncio.run_coroutine_threadsafe(self._open(address), loop).result(REACH_TIMEOUT_S)

    async def _open(self, address: str) -> None:
        self._rpc = ConnectionPool(limit=64, connection_args=self.connection_args, timeout=CONNECT_TIMEOUT_S)
        await self._rpc.start()
        self.scheduler = self._rpc(address)

    def close(self, timeout: float = REACH_TIMEOUT_S) -> None:
        """Disconnect, and end the event loop."""
        loop = self.loop.asyncio_loop
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._rpc.close(), loop).result(timeout)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(timeout)
