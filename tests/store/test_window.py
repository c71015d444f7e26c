"""Large updates reach functions on this machine through lent memory, and in messages where that cannot be."""

import contextlib
import os
from typing import Any

import numpy as np
import psutil
import pytest

from flstore import FLStore
from tests.store.conftest import make_round
from tests.store.test_hangs import wait_until

SIZE = 400_000  # of 4 bytes: large enough for the window
CLIENTS = 3


def armed(open_store: Any, **options: Any) -> FLStore:
    """A store whose policy wants the updates of every round from now on."""
    store: FLStore = open_store(memory="256MiB", **options)
    store.ingest(1, make_round(1, CLIENTS, SIZE))
    store.request("clustering", round=1, k=2)
    store.flush()
    return store


def answers_equal_what_was_sent(store: FLStore, round: int) -> None:
    answer = store.request("cosine_similarity", round=round, of="model")
    assert (answer.record.misses, answer.record.late_hits) == (0, 0)
    matrix = np.stack([update["w"] for update in make_round(round, CLIENTS, SIZE).values()]).astype(np.float64)
    seen = np.full((CLIENTS, 1), float(round))
    rows = np.hstack([matrix, seen]) if answer.value.similarity.shape == (CLIENTS, CLIENTS) else matrix
    norms = np.linalg.norm(rows, axis=1)
    assert np.allclose(answer.value.similarity, rows @ rows.T / np.outer(norms, norms), atol=1e-3)


def test_updates_come_through_the_window_and_nothing_stays_there(open_store: Any):
    store = armed(open_store)
    store.ingest(2, make_round(2, CLIENTS, SIZE))
    store.flush()
    (function,) = store._pool.functions.values()
    assert function.sees_window is True
    assert store._pool.window is not None
    assert store._pool.window.lent_bytes == 0
    answers_equal_what_was_sent(store, 2)


@pytest.mark.parametrize("why", ["no window", "another machine"])
def test_without_a_window_they_travel_in_messages(open_store: Any, why: str):
    store = armed(open_store)
    (function,) = store._pool.functions.values()
    if why == "no window":
        window, store._pool.window = store._pool.window, None
    else:
        function.sees_window = False
    store.ingest(2, make_round(2, CLIENTS, SIZE))
    store.flush()
    answers_equal_what_was_sent(store, 2)
    if why == "no window":
        store._pool.window = window


def test_bytes_that_changed_in_the_window_are_noticed(open_store: Any):
    store = armed(open_store)
    window = store._pool.window
    assert window is not None
    lend = window.lend

    @contextlib.asynccontextmanager
    async def damaged(borrower: int, buffer: Any) -> Any:
        async with lend(borrower, buffer) as at:
            window._bytes[at + memoryview(buffer).nbytes - 1] ^= 1
            yield at

    window.lend = damaged  # type: ignore[method-assign]
    store.ingest(2, make_round(2, CLIENTS, SIZE))
    store.flush()
    failures = [e.event for e in list(store.log) if type(e.event).__name__ == "LoadFailed"]
    assert failures
    assert all("do not match their checksum" in event.reason for event in failures)
    assert store.request("clustering", round=2, k=2).value.k == 2


def test_a_function_killed_while_it_borrows_leaves_no_place_taken(open_store: Any):
    store = armed(open_store)
    store.ingest(2, make_round(2, CLIENTS, SIZE))
    store.flush()
    (function,) = store._pool.functions.values()
    process, window = psutil.Process(function.pid), store._pool.window
    assert window is not None
    process.suspend()
    store.ingest(3, make_round(3, CLIENTS, SIZE))
    wait_until(lambda: window.lent_bytes > 0)
    process.kill()
    assert store.request("clustering", round=3, k=2, deadline_s=60).value.k == 2
    wait_until(lambda: window.lent_bytes == 0)
    assert not any("flstore" in name for name in os.listdir("/dev/shm"))


def test_a_store_that_closes_frees_the_memory(open_store: Any):
    store = armed(open_store)
    store.ingest(2, make_round(2, CLIENTS, SIZE))
    store.flush()
    window = store._pool.window
    assert window is not None
    name = window.where[2]
    store.close()
    open_files = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if n != "0" and _is_open(n)]
    assert not any(name in target for target in open_files)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        assert name not in maps.read()


def _is_open(number: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{number}")
