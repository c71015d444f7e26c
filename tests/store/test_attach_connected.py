"""Readers and writers on a cluster that somebody else runs, and that outlives them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flstore import FLStore
from flstore.errors import FunctionLostError, WriterExistsError
from flstore.functions import wire
from flstore.functions.desk import Desk
from tests.store.conftest import CLIENTS, fill
from tests.store.other import FILL, Other
from tests.store.test_hangs import wait_until


def connected(cluster: Any, root: str, **options: Any) -> str:
    """Code that connects a store."""
    options = {"memory": "64MiB", "security": cluster.security, **options}
    return f"from flstore import FLStore\nstore = FLStore.connect({cluster.address!r}, {root!r}, **{options!r})"


def test_the_functions_of_a_killed_writer_still_answer(cluster: Any, tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    with Other() as other:
        other.do(connected(cluster, root))
        other.do(FILL.format(1, 3) + "\nstore.request('clustering', round=2, k=2)\nstore.flush()")
        with FLStore.attach(root) as reader:
            wait_until(lambda: len(reader.status().functions) == 2)
            other.kill()
            record = reader.request("clustering", round=2, k=2).record
            assert record.functions[-1] in ("function-alpha", "function-beta")
            assert (record.hits, record.misses) == (CLIENTS + 1, 0)
        with FLStore.attach(root) as another:
            assert another.request("clustering", round=2, k=2).record.functions[-1].startswith("function-")


def test_orders_of_a_writer_whose_term_is_over_are_refused(
    cluster: Any,
    connect: Any,
) -> None:
    first = connect()
    fill(first, range(1, 3))
    first.flush()
    with Other() as other:
        other.do(connected(cluster, first.root, takeover=True))
        function = next(iter(first._pool.functions.values()))
        message = {"keys": wire.pack([]), "generation": 1, "incarnation": function.incarnation, "background": False}
        for what in ("load", "drop"):
            given = {k: v for k, v in message.items() if what == "load" or k != "background"}
            with pytest.raises(
                WriterExistsError, match=r"term is over \(epoch 1\); the writer of epoch 2 has taken over"
            ):
                first._pool.sync(first._pool.call(function.number, what, **given))
        with pytest.raises(WriterExistsError):
            first._pool.sync(first._pool.call(function.number, "inventory", renew=True))
        assert first.inventory(), "asking is no order"
        other.do(FILL.format(3, 4) + "\nanswer = store.request('clustering', round=3, k=2).record.functions")
        other.do("store.close()")


def test_a_reader_of_a_store_that_closed_asks_its_functions_no_more(connect: Any) -> None:
    store = connect()
    fill(store, range(1, 3))
    store.flush()
    with FLStore.attach(store.root) as reader:
        pool = reader._link._pool
        wait_until(lambda: len(pool.functions) == 2)
        store.close()
        with pytest.raises(FunctionLostError, match="not there any more"):
            pool.sync(pool._send(next(iter(pool.functions.values())).address, "ping", {}))
        assert not pool.reachable
        with pytest.warns(RuntimeWarning, match="answered in this process"):
            assert reader.request("clustering", round=2, k=2).record.functions == ["reader"]


def test_what_readers_ask_is_kept_until_the_writer_asks_for_it() -> None:
    async def check() -> None:
        desk = Desk()
        desk.open_desk("some-lineage", 1)
        for i in range(300):
            await desk._weigh(wire.pack([]), wire.pack([i]))
        desk.memory = FunctionMemory(1000)
        desk.incarnation = "one"
        assert (await desk._ping())["asked"] == wire.pack([]), "a reader's ping takes nothing"
        taken = await desk._ping(news=b"news", drain=True)
        assert wire.unpack(taken["asked"]) == [[i] for i in range(300 - 256, 300)]
        assert (await desk._ping(drain=True))["asked"] == wire.pack([])
        assert (await desk._weigh(wire.pack([])))["news"] == b"news"

    from flstore.functions.memory import FunctionMemory

    asyncio.run(check())
