"""Memory is lent for as long as the owner is heard, and what a function opened is closed with it."""

import asyncio
import os
import time

from distributed.core import Status

from flstore import FLStore
from flstore.functions.lease import TICKS, Lease
from flstore.functions.memory import FunctionMemory
from flstore.types import Key, Kind

KEY = Key("job", Kind.UPDATE, 1, "a")


def test_a_lease_ends_in_silence_and_not_before() -> None:
    async def go() -> list[str]:
        said: list[str] = []
        ended = asyncio.Event()

        async def end() -> None:
            said.append("ended")
            ended.set()

        lease = Lease(0.2, end)
        for _ in range(30):  # three times as long
            lease.renew()
            await asyncio.sleep(0.02)
        said.append("heard")
        await asyncio.wait_for(ended.wait(), 10)
        lease.cancel()
        return said

    assert asyncio.run(go()) == ["heard", "ended"]


def test_a_process_that_stood_still_does_not_end_a_lease() -> None:
    async def go() -> int:
        ends: list[int] = []

        async def end() -> None:
            ends.append(1)

        lease = Lease(TICKS * 0.01, end)
        time.sleep(1)  # the whole event loop hangs, for five leases
        for _ in range(10):
            lease.renew()
            await asyncio.sleep(0.01)
        lease.cancel()
        return len(ends)

    assert asyncio.run(go()) == 0


def test_memory_that_is_cleared_keeps_count_of_what_is_in_use() -> None:
    async def go() -> tuple[int, int]:
        memory = FunctionMemory(1000)
        await memory.insert(KEY, "value", 100, 1)
        await memory.insert(Key("job", Kind.UPDATE, 1, "b"), "value", 50, 2)
        pinned = memory.pin(KEY)
        await memory.drop([KEY], 0)
        await memory.clear()
        assert not memory.entries
        during = memory.used_bytes
        assert pinned is not None
        await memory.unpin([pinned])
        return during, memory.used_bytes

    assert asyncio.run(go()) == (100, 0)


def test_a_function_that_goes_closes_its_connections() -> None:
    with FLStore.local(functions=2, memory="16MiB", root=f"memory://lease-{os.urandom(4).hex()}") as store:
        workers = list(store._pool.cluster.workers.values())
        plugins = [worker.plugins[store._pool._plugin.name] for worker in workers]
        connections = [store._pool.sync(plugin._peers()) for plugin in plugins]
        assert {each.status for each in connections} == {Status.running}
    assert {each.status for each in connections} == {Status.closed}
