"""Ingest without a copy: checked at once, encoded on a thread, seen by all that is asked afterwards."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.errors import InvalidIdError, InvalidUpdateError, StoreError, UpdateExistsError
from tests.store.conftest import CLIENTS, make_aggregate, make_round


@pytest.fixture
def store(open_store: Any) -> FLStore:
    found: FLStore = open_store()
    return found


@pytest.fixture
def held_up(store: FLStore):
    """The encoding thread stands still until the event is set."""
    go = threading.Event()
    store._intake.start(lambda: go.wait(60), (), 0)
    yield go
    go.set()


def test_the_call_returns_before_anything_is_encoded_and_whoever_asks_sees_the_round(
    store: FLStore, held_up: threading.Event
):
    receipt = store.ingest(1, make_round(1), make_aggregate(1), {"c0": {"lr": 0.1}}, copy=False)
    assert (receipt.clients, receipt.durable) == (tuple(f"c{i}" for i in range(CLIENTS)), False)
    assert store._catalogue.rounds() == []
    with pytest.raises(TimeoutError):
        receipt.wait(0.01)

    async def ask() -> Any:
        return await store.ask("clustering", round=1, k=2)

    threading.Timer(0.05, held_up.set).start()
    answer = asyncio.run(ask())
    assert answer.value.k == 2
    receipt.wait(30)
    assert receipt.durable
    assert store.metadata(1).loc[(1, "c0"), "lr"] == 0.1
    assert np.array_equal(store.update(1, "c2")["w"], make_round(1)["c2"]["w"])


@pytest.mark.parametrize(
    "look",
    [
        lambda s: s.rounds(), lambda s: s.clients(1), lambda s: s.update(1, "c0"), lambda s: s.aggregate(1),
        lambda s: s.metadata(1).index.tolist(), lambda s: s.flush(),
        lambda s: s.submit("clustering", round=1, k=2).result(30),
    ],
)  # fmt: skip
def test_everything_that_is_asked_afterwards_waits_for_it(store: FLStore, held_up: threading.Event, look: Any):
    store.ingest(1, make_round(1), make_aggregate(1), copy=False)
    threading.Timer(0.02, held_up.set).start()
    look(store)
    assert store._catalogue.rounds() == [1]


def test_it_stores_what_a_copying_ingest_stores(tmp_path: Path):
    stored = []
    for copy in (True, False):
        with ObjStoreAgg(str(tmp_path / str(copy))) as store:
            store.ingest(1, make_round(1), make_aggregate(1), {"c0": {"lr": 0.1}}, copy=copy)
            store.ingest(1, {"late": make_round(1)["c1"]}, metadata={"c0": {"loss": 2.0}}, copy=copy)
        root = tmp_path / str(copy)
        stored.append({p.relative_to(root): p.read_bytes() for p in root.rglob("round=*/**/*") if p.is_file()})
    assert stored[0] == stored[1]
    assert len(stored[0]) == CLIENTS + 3


def test_what_can_be_known_is_raised_at_once_and_nothing_is_kept(store: FLStore, held_up: threading.Event):
    good = make_round(1)
    store.ingest(1, good, copy=False)
    with pytest.raises(InvalidUpdateError, match="one architecture"):
        store.ingest(1, {"new": {"w": np.zeros(3, np.float32)}}, copy=False)
    with pytest.raises(InvalidUpdateError, match="dtype"):
        store.ingest(2, {"a": {"w": np.array(["text"])}}, copy=False)
    with pytest.raises(InvalidUpdateError, match="is empty"):
        store.ingest(2, {}, copy=False)
    with pytest.raises(InvalidIdError):
        store.ingest(2, {"": good["c0"]}, copy=False)
    with pytest.raises(InvalidUpdateError):
        store.ingest(2, {"a": good["c0"]}, metadata={"a": {"bad": object()}}, copy=False)
    held_up.set()
    assert store.rounds() == [1]


def test_a_client_that_is_on_its_way_already_is_compared_at_once(store: FLStore, held_up: threading.Event):
    store.ingest(1, make_round(1), copy=False)
    threading.Timer(0.02, held_up.set).start()
    assert store.ingest(1, make_round(1), copy=False).clients == ()
    with pytest.raises(UpdateExistsError, match="was not overwritten"):
        store.ingest(1, {"c0": make_round(2)["c0"]}, copy=False)


def test_an_ingest_that_copies_comes_after_those_that_do_not(store: FLStore, held_up: threading.Event):
    store.ingest(1, make_round(1), metadata={"c0": {"loss": 1.0}}, copy=False)
    threading.Timer(0.02, held_up.set).start()
    store.ingest(1, {}, metadata={"c0": {"loss": 2.0}})
    assert store.metadata(1).loc[(1, "c0"), "loss"] == 2.0


def test_what_fails_later_is_raised_by_the_receipt_and_by_the_next_flush(tmp_path: Path):
    with ObjStoreAgg(str(tmp_path)) as store:
        larger_than_any_memory = np.broadcast_to(np.float32(1), (1 << 50,))
        receipt = store.ingest(1, {"a": {"w": larger_than_any_memory}}, copy=False)
        with pytest.raises(MemoryError):
            receipt.wait(30)
        assert not receipt.durable
        with pytest.raises(StoreError, match=r"1 ingest with copy=False did not end well.*Unable to allocate"):
            store.flush()
        assert store.rounds() == []
        store.ingest(1, make_round(1), copy=False).wait(30)
        assert store.rounds() == [1]


def test_too_much_at_once_waits_and_says_how_long(open_store: Any):
    store = open_store(write_buffer=100_000)
    go = threading.Event()
    store._intake.start(lambda: go.wait(60), (), 90_000)
    threading.Timer(0.05, go.set).start()
    with pytest.warns(RuntimeWarning, match="the write buffer of 100,000 bytes is full"):
        receipt = store.ingest(1, make_round(1), copy=False)
    assert receipt.waited_s > 0
    assert store.ingest(2, {}, make_aggregate(2), copy=False).waited_s == 0
    receipt.wait(30)


def test_values_that_are_not_finite_are_counted_all_the_same(store: FLStore):
    update = {"w": np.array([1, np.nan, np.inf], np.float32)}
    receipt = store.ingest(1, {"a": update}, copy=False)
    with pytest.warns(UserWarning, match="2 values that are NaN or infinite"):
        receipt.wait(30)
    assert store.metadata(1).loc[(1, "a"), "nonfinite"] == 2
