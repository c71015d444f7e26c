"""Where the dashboard of a Dask cluster is."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit

from flstore.functions.within import within

ASK_S = 0.5


async def dashboard_of(scheduler: Any) -> str:
    """URL of the status page of a scheduler; empty when it has none, or when it cannot be reached from here.

    Parameters
    ----------
    scheduler : PooledRPCCall
        Of a connection pool of Dask's.
    """
    with contextlib.suppress(OSError, ValueError, KeyError):
        identity = await within(scheduler.identity(n_workers=0), ASK_S)
        host, port = urlsplit(identity["address"]).hostname, int(identity["services"].get("dashboard", 0))
        if host and port and await within(_has_status(host, port), ASK_S):
            return f"http://{f'[{host}]' if ':' in host else host}:{port}/status"
    return ""


async def _has_status(host: str, port: int) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET /status HTTP/1.0\r\nHost: {host}\r\n\r\n".encode("ascii"))
        answer = await reader.readline()
        return answer.split()[1:2] == [b"200"]
    finally:
        writer.close()
