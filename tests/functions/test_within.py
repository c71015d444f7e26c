"""A bound on waiting."""

import asyncio

import pytest

from flstore.functions.within import within


def test_what_does_not_end_when_it_is_cancelled_is_left_to_itself():
    async def check() -> None:
        over = asyncio.Event()

        async def stubborn() -> None:
            while not over.is_set():
                try:
                    await over.wait()
                except asyncio.CancelledError:
                    continue

        with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
            await within(stubborn(), 0.01)
        over.set()
        await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(check(), 10))


def test_results_and_errors_come_through():
    async def give(value: object) -> object:
        if isinstance(value, Exception):
            raise value
        return value

    assert asyncio.run(within(give(3), 5)) == 3
    with pytest.raises(KeyError):
        asyncio.run(within(give(KeyError("x")), 5))
