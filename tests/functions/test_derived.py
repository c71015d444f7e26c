"""Derived state: shared, kept with its objects, and the first to make room."""

import asyncio
from typing import Any

import numpy as np

from flstore.functions import wire
from flstore.functions.derived import Derived, size_of
from flstore.functions.memory import FunctionMemory
from flstore.types import Key, Kind

A, B = (Key("job", Kind.UPDATE, 1, client) for client in "ab")
VALUE = {"products": np.zeros(10)}


async def made(derived: Derived, *keys: Key, name: str = "products", since: int = 0) -> list[str]:
    """Which of two requests at the same time had to compute."""
    computed: list[str] = []

    def compute(who: str) -> Any:
        async def value() -> dict[str, Any]:
            computed.append(who)
            await asyncio.sleep(0)
            return VALUE

        return value

    what = name, frozenset((key, since) for key in keys)
    found = await asyncio.gather(derived.get(what, compute("first")), derived.get(what, compute("second")))
    assert found[0] is found[1] is VALUE
    return computed


async def memory_with(*keys: Key, memory_bytes: int = 4000) -> FunctionMemory:
    memory = FunctionMemory(memory_bytes)
    for key in keys:
        await memory.insert(key, "value", 100, 1)
    return memory


def test_what_two_need_is_computed_once() -> None:
    async def go() -> list[list[str]]:
        derived = Derived(await memory_with(A, B))
        return [await made(derived, A, B), await made(derived, A, B), await made(derived, A)]

    assert asyncio.run(go()) == [["first"], [], ["first"]]


def test_it_is_kept_as_long_as_all_its_objects() -> None:
    async def go() -> list[int]:
        memory = await memory_with(A, B)
        derived = Derived(memory)
        await made(derived, A, B)
        counts = [len(derived), memory.derived_bytes]
        await memory.drop([B], 1)
        return [*counts, len(derived), memory.derived_bytes]

    assert asyncio.run(go()) == [1, size_of(VALUE), 0, 0]


def test_another_object_of_the_same_name_is_another_matter() -> None:
    async def go() -> list[list[str]]:
        derived = Derived(await memory_with(A))
        return [await made(derived, A), await made(derived, A, since=7), await made(derived, A)]

    assert asyncio.run(go()) == [["first"], ["first"], []]


def test_nothing_is_kept_of_what_is_not_held() -> None:
    async def go() -> int:
        derived = Derived(await memory_with(A))
        await made(derived, A, B)
        return len(derived)

    assert asyncio.run(go()) == 0


def test_a_request_takes_its_memory() -> None:
    async def go() -> tuple[int, int, int]:
        memory = await memory_with(A)
        derived = Derived(memory)
        await made(derived, A, name="older")
        await made(derived, A, name="newer")
        size = size_of(VALUE)
        await memory.reserve(memory.memory_bytes - memory.used_bytes - size)
        one_left = len(derived)
        await memory.reserve(size)
        return one_left, len(derived), memory.derived_bytes

    assert asyncio.run(go()) == (1, 0, 0)


def test_it_takes_no_memory_that_the_cache_may_fill() -> None:
    async def go() -> int:
        derived = Derived(await memory_with(A, memory_bytes=4 * size_of(VALUE) - 4))  # less than one of it in scratch
        await made(derived, A)
        return len(derived)

    assert asyncio.run(go()) == 0


def test_an_error_is_everybodys_and_not_kept() -> None:
    async def go() -> list[str]:
        derived = Derived(await memory_with(A))

        async def fail() -> dict[str, Any]:
            await asyncio.sleep(0)
            raise ValueError("no")

        what = "products", frozenset([(A, 0)])
        errors = await asyncio.gather(derived.get(what, fail), derived.get(what, fail), return_exceptions=True)
        return [*map(repr, errors), *await made(derived, A)]

    assert asyncio.run(go()) == ["ValueError('no')", "ValueError('no')", "first"]


def test_models_kept_ready_leave_it_less_room() -> None:
    async def go() -> list[int]:
        memory = await memory_with(A)
        derived = Derived(memory)
        memory.ready_bytes = lambda: memory.memory_bytes
        await made(derived, A)
        none = len(derived)
        memory.ready_bytes = lambda: 0
        await made(derived, A)
        return [none, len(derived)]

    assert asyncio.run(go()) == [0, 1]


def test_pieces_are_known_to_every_request_about_their_object() -> None:
    async def go() -> list[Any]:
        derived = Derived(await memory_with(A, B))
        order = {"objects": [[wire.key_values(key), 100, "", 0] for key in (A, B)]}
        first = derived.known(order)
        assert first.find("outputs", [A]) is None
        await asyncio.to_thread(first.keep, "outputs", [A], VALUE)
        await asyncio.sleep(0)
        second = derived.known(order)
        found = second.find("outputs", [A])
        await derived._memory.drop([A], 1)
        return [first.all_known, found is VALUE, second.all_known, derived.known(order).find("outputs", [A])]

    assert asyncio.run(go()) == [False, True, True, None]
