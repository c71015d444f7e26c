"""Little memory, busy functions, stores that fail for a while: accounts stay right and nothing waits for nothing."""

import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore.errors import CapacityError, StoreError
from tests.store.conftest import CLIENTS, fill, make_round
from tests.store.odd_workloads import HoldsTheInterpreter, WaitsForFile


def test_a_busy_function_is_not_a_lost_one(open_store: Any) -> None:
    store = open_store(functions=1)
    fill(store, range(1, 3))
    busy = store.submit(HoldsTheInterpreter(seconds=3), round=1)
    others = [store.submit("clustering", round=r, k=2) for r in (1, 2) for _ in range(3)]
    assert busy.result(60).value.clients == [f"c{i}" for i in range(CLIENTS)]
    assert all(f.result(60).record.functions == ["function-0"] for f in others)
    assert [type(e.event).__name__ for e in store.log].count("FunctionLost") == 0


def test_a_prefetch_that_somebody_needs_does_not_wait_for_its_cause(open_store: Any, tmp_path: Path) -> None:
    store = open_store(functions=2, memory="192KiB")  # a function caches three rounds: round 2 goes to the other one
    for r in (1, 2):
        store.ingest(r, make_round(r, size=6000))
    store.flush()
    gate = tmp_path / "gate"
    slow = store.submit(WaitsForFile(path=str(gate)), round=1)
    quick = store.submit("clustering", round=2, k=2).result(60)  # round 2 is prefetched because of `slow`
    assert not slow.done()
    assert (quick.record.late_hits, quick.record.functions) == (CLIENTS, ["function-0"])
    gate.touch()
    assert slow.result(60).value.clients


def test_records_and_index_stay_right_under_pressure_from_many_threads(open_store: Any) -> None:
    store = open_store(functions=2, memory="256KiB", policy="lru")
    fill(store, range(1, 13))

    def ask(i: int) -> Any:
        try:
            return store.request("clustering", round=1 + i % 12, k=2, of="model")
        except CapacityError:
            return None  # a function that must fetch more than it has room for says so

    with ThreadPoolExecutor(8) as threads:
        answers = [a for a in threads.map(ask, range(60)) if a is not None]
    assert len(answers) > 30
    for answer in answers:
        r = answer.record
        assert min(r.hits, r.late_hits, r.misses) >= 0
        assert r.hits + r.late_hits + r.misses == CLIENTS
    store.flush()
    index = {
        store._pool.functions[f].name: sum(len(c) for c in slots.values())
        for f, slots in store._state.holdings().items()
    }
    assert {name: len(keys) for name, keys in store.inventory().items()} == index


def test_a_store_that_failed_for_a_while_is_caught_up_with(open_store: Any, tmp_path: Path) -> None:
    root = tmp_path / "root"
    store = open_store()
    store.ingest(1, make_round(1))
    store.flush()
    shutil.rmtree(root)
    root.write_text("in the way")  # the disk is gone, so to speak
    receipt = store.ingest(2, make_round(2))
    with pytest.raises(StoreError):
        store.flush()
    assert not receipt.durable
    assert store.request("clustering", round=2, k=2).value.k == 2  # from memory, or from the write buffer
    root.unlink()
    store.flush()  # tries again
    np.testing.assert_array_equal(store.update(2, "c1")["w"], make_round(2)["c1"]["w"])
    assert sorted(p.name for p in root.rglob("*client=*")) == [f"client=c{i}.safetensors" for i in range(CLIENTS)]


def test_warnings_as_errors_lose_nothing(open_store: Any) -> None:
    store = open_store(root="memory://warnings-as-errors")
    updates = make_round(1)
    updates["c0"]["w"] = np.full(2000, np.inf, "f4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="c0"):
            store.ingest(1, updates)
    store.flush()
    assert store.clients(1) == [f"c{i}" for i in range(CLIENTS)]
