"""How long a function keeps memory for an owner that says nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

TICKS = 20


class Lease:
    """Calls `ended` when nothing was heard for so long, and again after each further silence.

    It is counted in ticks of the event loop, so that neither a clock that jumps nor a process that stood still ends it.

    Parameters
    ----------
    seconds : float
        How long; needs a running event loop.
    ended : callable
        What to do then.
    """

    def __init__(self, seconds: float, ended: Callable[[], Awaitable[None]]) -> None:
        self._tick_s = seconds / TICKS
        self._ended = ended
        self._heard = True
        self._minding = asyncio.ensure_future(self._mind())

    def renew(self) -> None:
        """Note that the owner is there."""
        self._heard = True

    def cancel(self) -> None:
        """End it without a call."""
        self._minding.cancel()

    async def _mind(self) -> None:
        silent = 0
        while True:
            await asyncio.sleep(self._tick_s)
            silent = 0 if self._heard else silent + 1
            self._heard = False
            if silent == TICKS:
                await self._ended()
