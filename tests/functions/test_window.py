"""The memory that a store lends to functions on its machine: who may read it, who waits, what is left behind."""

import asyncio
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flstore.functions import window as lending
from flstore.functions.window import Borrower, Window, open_window, sees

READER = """
import sys
from flstore.functions.window import Borrower, sees
where = [int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]]
print(sees(where), sees([where[0], where[1], "another"]), sees([where[0], 10**6, where[2]]))
print(bytes(Borrower().borrow(where, int(sys.argv[4]), int(sys.argv[5]))[-3:]))
"""


def read_elsewhere(window: Window, at: int, size: int) -> list[str]:
    command = [sys.executable, "-c", READER, *map(str, window.where), str(at), str(size)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def data(size: int, value: int = 7) -> bytes:
    return bytes([value]) * size


def test_another_process_reads_what_is_lent_and_nothing_has_a_name():
    async def run() -> list[str]:

        window = Window()
        async with window.lend(0, data(5000)) as at:
            assert at is not None
            found = await asyncio.to_thread(read_elsewhere, window, at, 5000)
            assert window.lent_bytes == 5000
            assert not any("flstore" in name for name in os.listdir("/dev/shm"))
        assert window.lent_bytes == 0
        await window.close()
        return found

    assert asyncio.run(run()) == ["True False False", str(data(3))]


def test_nobody_else_may_open_it():
    async def run() -> None:
        window = Window()
        assert os.fstat(window.where[1]).st_mode & 0o777 == 0o600
        assert not sees(window.where), "a function in the same process needs no window"
        await window.close()

    asyncio.run(run())


def test_a_borrower_waits_for_its_own_share_and_not_for_that_of_others(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lending, "SHARE_BYTES", 10_000)

    async def run() -> None:
        window = Window()
        order: list[str] = []

        async def third() -> None:
            async with window.lend(0, data(4000)):
                order.append("the third of the first")

        async with window.lend(0, data(4000)):
            async with window.lend(0, data(4000)):
                waiting = asyncio.ensure_future(third())
                async with window.lend(1, data(4000)):
                    order.append("another")
                assert not waiting.done()
            await waiting
        assert order == ["another", "the third of the first"]
        async with window.lend(0, data(50_000)) as at:
            assert at == 0, "one that is larger than the share passes alone"
        await window.close()

    asyncio.run(run())


def test_places_are_used_again_and_far_pages_are_given_back(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lending, "KEEP_BYTES", mmap.PAGESIZE)

    async def run() -> None:
        window = Window()
        for _ in range(20):
            async with window.lend(0, data(100_000)) as first, window.lend(1, data(100_000)) as second:
                assert (first, second) == (0, 25 * mmap.PAGESIZE)
        assert os.fstat(window.where[1]).st_blocks * 512 <= mmap.PAGESIZE
        await window.close()

    asyncio.run(run())


def test_without_a_place_it_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lending, "SPAN_BYTES", 8192)

    async def run() -> None:
        window = Window()
        async with window.lend(0, data(9000)) as at:
            assert at is None
        await window.close()
        async with window.lend(0, data(10)) as at:
            assert at is None, "it is closed"

    asyncio.run(run())


def test_a_window_that_is_gone_is_an_error_not_a_wait(tmp_path: Path):
    async def run() -> None:
        window = Window()
        where = window.where
        await window.close()
        os.mkfifo(tmp_path / "pipe")
        reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        with pytest.raises(OSError):
            Borrower().borrow([os.getpid(), reader, where[2]], 0, 10)
        os.close(reader)
        with pytest.raises(OSError):
            Borrower().borrow([2**22 + 1, 3, where[2]], 0, 10)

    asyncio.run(run())


def test_a_window_that_is_too_short_is_an_error():
    async def run() -> None:
        window = Window()
        with pytest.raises(OSError, match="too early"):
            Borrower().borrow(window.where, lending.SPAN_BYTES - 10, 20)
        await window.close()

    asyncio.run(run())


def test_the_window_is_mapped_only_while_somebody_reads():
    async def run() -> None:
        window, borrower = Window(), Borrower()
        async with window.lend(0, data(5000)) as at:
            assert at is not None
            first = borrower._enter(window.where)
            assert bytes(borrower.borrow(window.where, at, 5000)) == data(5000)
            assert not first.closed
            borrower._leave(window.where)
            assert first.closed
        await window.close()

    asyncio.run(run())


def test_memory_that_can_shrink_is_not_read(tmp_path: Path):
    with open(tmp_path / "file", "wb+") as file:
        file.truncate(1 << 20)
        with pytest.raises(OSError):
            Borrower().borrow([os.getpid(), file.fileno(), "x"], 0, 10)


def test_where_there_is_no_such_memory_there_is_no_window(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "memfd_create")
    assert open_window() is None


def test_who_gives_up_does_not_leave_its_place_taken():
    async def run() -> None:
        window = Window()

        async def lend() -> None:
            async with window.lend(0, np.ones(1 << 22, np.uint8)):
                await asyncio.Event().wait()

        task = asyncio.ensure_future(lend())
        while not window.lent_bytes:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert window.lent_bytes == 0
        await window.close()

    asyncio.run(run())
