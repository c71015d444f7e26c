"""Who waits for one thing to happen, on one event loop: thousands may, and none needs a task of its own for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Waiters:
    """Futures that :meth:`wake` resolves. Entering and leaving cost the same however many wait."""

    def __init__(self) -> None:
        self._futures: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        return len(self._futures)

    @contextmanager
    def waiter(self) -> Iterator[asyncio.Future[None]]:
        """A future that is done when :meth:`wake` is called before the block ends."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.add(future)
        try:
            yield future
        finally:
            self._futures.discard(future)

    def wake(self) -> None:
        """Resolve all who wait now."""
        futures, self._futures = self._futures, set()
        for future in futures:
            finish(future)


def finish(future: asyncio.Future[None]) -> None:
    """Resolve a future unless it is already, or was cancelled."""
    if not future.done():
        future.set_result(None)
