"""A bound on waiting that does not depend on how the awaited work takes its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def within(work: Awaitable[T], seconds: float) -> T:
    """The result of `work`; after so many seconds it is cancelled and left to itself.

    ``asyncio.wait_for`` waits until what it cancelled has ended, and an attempt to connect may never do so.

    Raises
    ------
    TimeoutError
        It did not end in time.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if done:
        return task.result()
    task.add_done_callback(_forget)
    task.cancel()
    raise TimeoutError(f"no answer within {seconds:g} s")


def _forget(task: asyncio.Future[T]) -> None:
    if not task.cancelled():
        task.exception()
