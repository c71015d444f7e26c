"""The memory of a function: counted to the byte, and never over its limit."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from flstore.errors import CapacityError
from flstore.functions.memory import FunctionMemory, cache_bytes
from flstore.types import Key, Kind


def key(name: str) -> Key:
    return Key("job", Kind.UPDATE, 1, name)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 20))


def test_a_quarter_is_scratch_space() -> None:
    assert cache_bytes(1000) == 750


def test_inserts_are_counted_and_bounded() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000, wait_s=0.01)
        assert await memory.insert(key("a"), "A", 500, 1)
        with pytest.raises(CapacityError, match="500 of 750"):
            await memory.insert(key("b"), "B", 300, 2)
        with pytest.raises(CapacityError, match="800 bytes, the cache of this function 750"):
            await memory.insert(key("c"), "C", 800, 3)
        assert memory.used_bytes == 500
        assert list(memory.entries) == [key("a")]

    run(check())


def test_an_insert_waits_for_a_drop_that_is_on_its_way() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000)
        await memory.insert(key("a"), "A", 700, 1)
        waiting = asyncio.ensure_future(memory.insert(key("b"), "B", 700, 2))
        await asyncio.sleep(0)
        assert not waiting.done()
        await memory.drop([key("a")], 1)
        assert await waiting
        assert (memory.used_bytes, list(memory.entries)) == (700, [key("b")])

    run(check())


def test_what_was_dropped_meanwhile_does_not_come_in() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000)
        await memory.drop([key("a")], 5)
        assert not await memory.insert(key("a"), "old", 10, 5)
        assert await memory.insert(key("a"), "new", 10, 6)
        await memory.drop([key("a")], 5)  # an earlier decision does not touch a later load
        assert memory.entries[key("a")].value == "new"

    run(check())


def test_a_load_that_was_dropped_stops_waiting_for_room() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000)
        await memory.insert(key("a"), "A", 700, 1)
        waiting = asyncio.ensure_future(memory.insert(key("b"), "B", 700, 2))
        await asyncio.sleep(0)
        await memory.drop([key("b")], 2)
        assert not await waiting

    run(check())


def test_a_newer_load_takes_the_place_of_an_older_one_and_not_the_other_way() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000)
        await memory.insert(key("a"), "new", 600, 7)
        assert not await memory.insert(key("a"), "old", 100, 3)
        assert await memory.insert(key("a"), "newer", 700, 8)
        assert (memory.entries[key("a")].value, memory.used_bytes) == ("newer", 700)

    run(check())


def test_pinned_bytes_stay_counted_until_they_are_let_go() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000)
        await memory.insert(key("a"), "A", 700, 1)
        entry = memory.pin(key("a"))
        assert entry is not None
        await memory.drop([key("a")], 1)
        assert (memory.used_bytes, memory.entries) == (700, {})
        await memory.unpin([entry])
        assert memory.used_bytes == 0
        assert memory.pin(key("a")) is None

    run(check())


def test_what_was_loaded_before_an_object_came_to_exist_is_another_one() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000)
        await memory.insert(key("a"), "deleted", 10, 3)
        assert memory.pin(key("a"), since=3) is None
        assert await memory.insert(key("a"), "A", 10, 4)
        entry = memory.pin(key("a"), since=3)
        assert entry is not None
        assert entry.value == "A"

    run(check())


def test_a_drop_is_remembered_while_a_load_may_still_arrive() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000)
        await memory.drop([key("a"), key("b")], 5, settled=3)
        assert not await memory.insert(key("a"), "late", 10, 4)
        await memory.drop([key("a")], 9, settled=6)
        assert memory.tombstones == {key("a"): 9}
        await memory.drop([key("c")], 10, settled=10)
        assert memory.tombstones == {}

    run(check())


def test_scratch_space_is_waited_for_and_never_promised_in_vain() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000)
        await memory.insert(key("a"), "A", 700, 1)
        await memory.reserve(300)
        waiting = asyncio.ensure_future(memory.reserve(200))
        await asyncio.sleep(0)
        assert not waiting.done()
        await memory.release(300)
        await waiting
        await memory.release(200)
        assert memory.scratch_bytes == 0
        with pytest.raises(
            CapacityError, match=r"fetch 400 bytes, and this function has 300 of 1000 bytes free.*memory="
        ):
            await memory.reserve(400)

    run(check())


def test_a_load_that_is_not_valid_any_more_stops_waiting_and_stays_out() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000)
        await memory.insert(key("a"), "A", 700, 1)
        valid = True
        waiting = asyncio.ensure_future(memory.insert(key("b"), "B", 700, 2, lambda: valid))
        await asyncio.sleep(0)
        valid = False
        await memory.drop([key("a")], 1)
        assert not await waiting
        assert (memory.used_bytes, memory.entries) == (0, {})

    run(check())


def test_in_a_new_time_what_was_dropped_may_come_and_what_is_here_stays() -> None:
    async def check() -> None:
        memory = FunctionMemory(1000)
        await memory.insert(key("kept"), "old", 100, 7)
        await memory.insert(key("dropped"), "old", 100, 8)
        await memory.drop([key("dropped")], 9)
        assert not await memory.insert(key("dropped"), "too late", 100, 3)
        await memory.renew()
        assert await memory.insert(key("dropped"), "new", 100, 10)
        found = memory.find(key("kept"), since=6)
        assert found is not None, "loaded after the object came to exist"
        assert found.value == "old"
        assert memory.find(key("kept"), since=7) is None, "another object of that name"
        assert await memory.insert(key("kept"), "new", 100, 11)
        assert sorted(e.value for e in memory.entries.values()) == ["new", "new"]
        await memory.drop([key("kept")], 9, valid=lambda: False)
        assert key("kept") in memory.entries, "a drop of the time before"
        await memory.drop([key("kept")], 11)
        assert key("kept") not in memory.entries

    run(check())


def test_only_the_newest_drops_are_remembered():
    async def run() -> None:
        memory = FunctionMemory(1000)
        keys = [Key("job", Kind.UPDATE, round, "c") for round in range(100_010)]
        await memory.drop(keys, 1)
        assert len(memory.tombstones) == 100_000
        assert keys[9] not in memory.tombstones
        assert keys[10] in memory.tombstones

    asyncio.run(run())
