"""Who comes to a full gate waits in line, as a thread or as a coroutine, and leaves nothing behind when it gives up."""

import asyncio
import threading

import pytest

from flstore.gate import Gate


def wait_in_line(gate: Gate, count: int) -> None:
    tick = threading.Event()
    while gate.waiting < count:
        tick.wait(0.005)


def test_they_come_in_in_the_order_in_which_they_came_threads_and_coroutines_alike():
    gate, order = Gate(1), []
    assert gate.enter()

    def thread(name: str) -> None:
        gate.enter()
        order.append(name)
        gate.leave()

    async def coroutine(name: str) -> None:
        await gate.enter_async()
        order.append(name)
        gate.leave()

    waiting = []
    for i in range(6):
        target = (lambda i=i: asyncio.run(coroutine(f"{i}"))) if i % 2 else (lambda i=i: thread(f"{i}"))
        waiting.append(threading.Thread(target=target))
        waiting[-1].start()
        wait_in_line(gate, i + 1)
    gate.leave()
    for each in waiting:
        each.join(20)
    assert order == ["0", "1", "2", "3", "4", "5"]
    assert (gate.inside, gate.waiting) == (0, 0)


def test_a_coroutine_that_is_cancelled_in_line_leaves_it():
    async def run() -> None:
        gate = Gate(1)
        gate.enter()
        first, second = (asyncio.ensure_future(gate.enter_async()) for _ in range(2))
        await asyncio.sleep(0)
        assert gate.waiting == 2
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert gate.waiting == 1
        gate.leave()
        assert await second
        assert (gate.inside, gate.waiting) == (1, 0)

    asyncio.run(run())


def test_one_that_was_let_in_while_it_was_cancelled_leaves_again():
    async def run() -> None:
        gate = Gate(1)
        gate.enter()
        waiting = asyncio.ensure_future(gate.enter_async())
        await asyncio.sleep(0)
        gate.leave()  # lets it in, but it has not heard of that yet
        assert gate.inside == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (gate.inside, gate.waiting) == (0, 0)

    asyncio.run(run())


def test_a_deadline_ends_the_wait():
    gate = Gate(1)
    assert gate.enter()
    assert not gate.enter(timeout_s=0.01)
    assert not asyncio.run(gate.enter_async(timeout_s=0.01))
    assert (gate.inside, gate.waiting) == (1, 0)


def test_who_must_not_wait_goes_in_and_the_others_wait_until_there_is_room_again():
    gate = Gate(1)
    gate.enter()
    gate.enter_now()
    gate.leave()
    assert not gate.enter(timeout_s=0.01)
    gate.leave()
    assert gate.enter(timeout_s=0.01)
