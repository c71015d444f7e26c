"""Many calls, some at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def concurrently(function: Callable[[In], Out], items: Iterable[In], threads: int) -> Iterator[Out]:
    """Yield ``function(item)`` in the order of the items; raises what the first failing call raised.

    At most four calls a thread are under way or waiting to be fetched, however many items there are.
    """
    pool = ThreadPoolExecutor(max_workers=max(1, threads))
    ahead: deque[Future[Out]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) >= 4 * max(1, threads):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
