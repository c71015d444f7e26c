"""What goes between a writer and its readers, by way of the pings to the functions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool


class Telling:
    """Nothing to tell and nothing to hear, in no term: the base of those who have."""

    @property
    def term(self) -> tuple[str, int]:
        """Lineage and epoch of the writer's term."""
        return "", 0

    @property
    def stamp(self) -> dict[str, Any]:
        """What every message to a function carries."""
        return {}

    def message(self) -> dict[str, Any]:
        """What a ping brings."""
        return {}

    def heard(self, reply: dict[str, Any]) -> None:
        """Take what a ping brought back; on the event loop."""


async def tell(pool: FunctionPool) -> None:
    """Bring the news to all functions now, not with their next pings; those that do not answer hear of it then."""
    telling = pool.telling
    calls = [
        pool._send(f.address, "ping", telling.message()) for f in list(pool.functions.values()) if not f.silent.is_set()
    ]
    bounded = [asyncio.wait_for(call, pool._deadline_s) for call in calls]
    for reply in await asyncio.gather(*bounded, return_exceptions=True):
        if not isinstance(reply, BaseException):
            telling.heard(reply)
