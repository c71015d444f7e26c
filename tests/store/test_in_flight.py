"""Many requests at once: from coroutines and threads, more than may be open, from stores that share functions."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from flstore import FLStore
from flstore.errors import InvalidParameterError, RequestTimeoutError, StoreClosedError, UpdateNotFoundError
from tests.store.conftest import CLIENTS, fill
from tests.store.odd_workloads import Done, WaitsForFile


def expected_labels(store: FLStore, round: int) -> list[int]:
    return store.request("clustering", round=round, k=2).value.labels.tolist()


def test_two_hundred_from_coroutines_and_threads_at_once(shared: FLStore):
    expected = {round: expected_labels(shared, round) for round in (4, 5)}
    before = len(shared.requests)

    asked = [4 + i % 2 for i in range(100)]

    async def half() -> list[Any]:
        return await asyncio.gather(*(shared.ask("clustering", round=round, k=2) for round in asked))

    with ThreadPoolExecutor(20) as threads:
        other = [threads.submit(shared.request, "clustering", round=round, k=2) for round in asked]
        found = asyncio.run(half())
        found += [answer.result(60) for answer in other]
    assert [answer.value.labels.tolist() for answer in found] == [expected[round] for round in asked * 2]
    records = shared.requests.iloc[before:]
    assert (len(records), set(records["status"])) == (200, {"done"})
    assert shared._gate.inside == 0


def test_no_more_than_allowed_are_open_and_the_wait_is_recorded(open_store: Any, tmp_path: Path):
    store = open_store(max_in_flight=3)
    fill(store, range(1, 3))
    go = tmp_path / "go"
    waits = WaitsForFile(path=str(go))
    first = [store.submit(waits, round=1) for _ in range(3)]

    async def more() -> list[Any]:
        asked = [asyncio.ensure_future(store.ask("clustering", round=2, k=2)) for _ in range(5)]
        await asyncio.sleep(0)  # the loop goes on while they stand in line
        assert store._gate.waiting == 5
        assert not any(f.done() for f in first)
        with pytest.raises(RequestTimeoutError, match="3 requests were open all the time"):
            await asyncio.to_thread(store.request, "clustering", round=2, k=2, deadline_s=0.05)
        go.touch()
        return await asyncio.gather(*asked)

    answers = asyncio.run(more())
    wait(first, 30)
    assert (store._gate.inside, store._gate.waiting) == (0, 0)
    assert all(0.05 <= answer.record.queue_s <= answer.record.latency_s for answer in answers)
    failed = store.requests.query("status == 'failed'")
    assert failed["error"].str.contains("RequestTimeoutError").tolist() == [True]


def test_a_callback_never_waits_in_line(open_store: Any):
    store = open_store(max_in_flight=1)
    fill(store, range(1, 2))
    chained: Future[Any] = Future()

    def again(_: Any) -> None:
        store.submit("clustering", round=1, k=2).add_done_callback(lambda f: chained.set_result(f.result().value.k))
        store.submit("clustering", round=1, k=2)

    store.submit("clustering", round=1, k=2).add_done_callback(again)
    assert chained.result(30) == 2


def test_cancelling_gives_up_the_wait_not_the_request(open_store: Any, tmp_path: Path):
    store = open_store()
    fill(store, range(1, 2))
    go = tmp_path / "go"

    async def give_up() -> None:
        asked = asyncio.ensure_future(store.ask(WaitsForFile(path=str(go)), round=1))
        while not len(store.requests):
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(give_up())
    assert store.requests["status"].tolist() == ["running"]
    go.touch()
    assert store.request("clustering", round=1, k=2).value.k == 2
    assert store.requests["status"].tolist() == ["done", "done"]
    assert store._gate.inside == 0


def test_what_cannot_be_asked_is_raised_and_takes_no_place(shared: FLStore):
    async def ask(*what: Any, **more: Any) -> Any:
        return await shared.ask(*what, **more)

    with pytest.raises(UpdateNotFoundError, match="round 99"):
        asyncio.run(ask("clustering", round=99))
    with pytest.raises(UpdateNotFoundError, match="round 99"):
        shared.submit("clustering", round=99)
    with pytest.raises(InvalidParameterError):
        asyncio.run(ask("clustering", round=1, k=-1))
    assert shared._gate.inside == 0


@pytest.mark.parametrize("odd", [0, -1, 1.5, True, "many"])
def test_an_odd_limit_is_refused(odd: Any, tmp_path: Path):
    with pytest.raises(InvalidParameterError, match="max_in_flight must be an integer of at least 1"):
        FLStore.local(root=str(tmp_path), max_in_flight=odd)


def test_those_in_line_hear_that_the_store_closes(open_store: Any, tmp_path: Path):
    store = open_store(max_in_flight=1)
    fill(store, range(1, 2))
    first = store.submit(WaitsForFile(path=str(tmp_path / "never")), round=1)
    with ThreadPoolExecutor(1) as threads:
        late = threads.submit(store.request, "clustering", round=1, k=2)
        tick = threading.Event()
        while not store._gate.waiting:
            tick.wait(0.01)
        store.close()
        for future in (first, late):
            with pytest.raises(StoreClosedError):
                future.result(30)


def test_a_store_that_floods_the_functions_does_not_starve_another(connect: Any, tmp_path: Path):
    flooding, other = connect("one"), connect("two", job="other")
    for store in (flooding, other):
        fill(store, range(1, 3))
    go = tmp_path / "go"
    flood = [flooding.submit(WaitsForFile(path=str(go)), round=1 + i % 2) for i in range(100)]
    for round in (1, 2):
        assert other.request("clustering", round=round, k=2).value.k == 2
    assert not any(f.done() for f in flood), "the other store's requests were answered before any of these"
    go.touch()
    assert all(f.result(60).value == Done([f"c{i}" for i in range(CLIENTS)]) for f in flood)


def test_inside_a_store_nobody_is_overtaken_for_long(open_store: Any, tmp_path: Path):
    store = open_store()
    fill(store, range(1, 2))
    store.request("clustering", round=1, k=2)
    go, order = tmp_path / "go", []
    first = store.submit(WaitsForFile(path=str(go)), round=1)
    asked = [first]
    for i in range(300):  # far more than a function takes at a time
        asked.append(store.submit("clustering", round=1, k=2))
        asked[-1].add_done_callback(lambda _, i=i: order.append(i))
    go.touch()
    wait(asked, 60)
    assert sorted(order) == list(range(300))
    late = max(at - i for at, i in enumerate(order))
    assert late < 150, f"one was overtaken by {late} that came later"


def test_nothing_is_left_over_of_requests_that_were_answered(shared: FLStore):
    for future in [shared.submit("clustering", round=1 + i % 3, k=2) for i in range(150)]:
        future.result(60)
    shared.flush()

    async def tidy() -> dict[str, int]:
        await asyncio.sleep(0)
        pool, serving, moves = shared._pool, shared._serving, shared._moves
        return {
            "open": len(serving._open), "begun": len(serving._begun), "tasks": len(serving._tasks),
            "news": len(pool.news), "replies": sum(len(f.replies) for f in pool.functions.values()),
            "loads": len(moves._loads), "held back": len(moves._held_back),
        }  # fmt: skip

    left = shared._pool.sync(tidy())
    assert left == dict.fromkeys(left, 0)
