"""Rounds that fit no single function: held in parts, answered part by part, and the updates stay where they are."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore, policies
from flstore.engine import fold
from flstore.types import FunctionLost, Kind
from tests.store.odd_workloads import SquaresOfElements

CLIENTS, SIZE = 10, 60_000
ROUND_BYTES = CLIENTS * SIZE * 4
MEMORY = 2_500_000  # of which 1.875 MB are cache: ten updates of 0.24 MB need two functions


def updates(round: int = 1, dtype: str = "f4") -> dict[str, dict[str, np.ndarray]]:
    shift = np.random.default_rng(5).normal(size=SIZE)
    found = {}
    for i in range(CLIENTS):
        rng = np.random.default_rng([round, i])
        values = (rng.normal(size=SIZE) + (i % 2) * shift).astype(dtype)
        found[f"c{i}"] = {"a.weight": values[: SIZE // 3].reshape(100, -1), "b.weight": values[SIZE // 3 :]}
    return found


def start(dtype: str = "f4") -> dict[str, np.ndarray]:
    return {"a.weight": np.full((100, SIZE // 300), 0.1, dtype), "b.weight": np.full(SIZE - SIZE // 3, 0.2, dtype)}


def settle(store: FLStore) -> FLStore:
    """A round that is in memory, because it was asked for."""
    store.ingest(0, {}, aggregate=start())
    store.ingest(1, updates())
    store.request("cosine_similarity", round=1)
    store.flush()
    return store


def check_equal(found: Any, expected: Any) -> None:
    """Within what float32 products allow; the axes of a map of nearly equal distances turn with the last digits."""
    for field in dataclasses.fields(expected):
        mine, theirs = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(theirs, np.ndarray) and theirs.dtype.kind == "f":
            least = 1e-3 * np.nanmax(np.abs(theirs)) if field.name == "coordinates" else 2e-5
            np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=least, err_msg=field.name)
        elif isinstance(theirs, float):
            assert mine == pytest.approx(theirs, rel=1e-5)
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=field.name)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store whose functions hold the round whole: what the others must agree with."""
    with FLStore.local(functions=1, memory="64MiB", root=str(tmp_path_factory.mktemp("large"))) as store:
        yield settle(store)


@pytest.fixture(scope="module")
def striped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with FLStore.local(functions=2, memory=MEMORY, root=str(tmp_path_factory.mktemp("striped"))) as store:
        yield settle(store)


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("cosine_similarity", {}), ("cosine_similarity", {"of": "model"}), ("clustering", {"k": 2}),
    ("clustering", {"k": 2, "of": "model"}), ("malicious_filtering", {}), ("malicious_filtering", {"method": "krum"}),
]  # fmt: skip


@pytest.mark.parametrize(("workload", "params"), REQUESTS)
def test_a_round_in_parts_gives_the_answer_of_one_function(
    striped: FLStore, large: FLStore, workload: str, params: dict[str, Any]
) -> None:
    expected = large.request(workload, round=1, **params)
    assert len(expected.record.functions) == 1
    found = striped.request(workload, round=1, **params)
    check_equal(found.value, expected.value)
    assert (found.record.hits, found.record.misses) == (expected.record.hits, 0)
    assert sorted(found.record.functions) == ["function-0", "function-1"]
    assert 0 < found.record.bytes_moved < 0.01 * ROUND_BYTES


def test_each_function_holds_about_half_of_every_update(striped: FLStore) -> None:
    held = {name: [k for k in keys if k.kind is not Kind.METADATA] for name, keys in striped.inventory().items()}
    assert held["function-0"] == held["function-1"]
    assert len(held["function-0"]) == CLIENTS + 1  # with the aggregate that the round started from
    used = [f.used_bytes for f in striped.status().functions]
    assert max(used) < 0.6 * ROUND_BYTES


def test_float64_updates_agree_to_rounding(open_store: Callable[..., FLStore]) -> None:
    store = open_store(functions=2, memory=2 * MEMORY)
    store.ingest(1, updates(dtype="f8"))
    store.request("cosine_similarity", round=1)
    store.flush()
    found = store.request("cosine_similarity", round=1)
    assert len(found.record.functions) == 2
    vectors = np.array([np.concatenate([t.ravel() for t in u.values()]) for u in updates(dtype="f8").values()])
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(found.value.similarity, vectors @ vectors.T / np.outer(lengths, lengths), rtol=1e-9)


def test_a_workload_of_a_third_party_runs_part_by_part(striped: FLStore) -> None:
    result = striped.request(SquaresOfElements(), round=1)
    expected = [sum(float((t.astype("f8") ** 2).sum()) for t in u.values()) for u in updates().values()]
    assert result.value.squares == pytest.approx(expected, rel=1e-9)
    assert len(result.record.functions) == 2


def test_other_workloads_get_whole_updates_put_together(striped: FLStore) -> None:
    result = striped.request("lineage", client="c3")
    vector = np.concatenate([t.ravel() for t in updates()["c3"].values()]).astype("f8")
    assert result.value.norms[0] == pytest.approx(np.linalg.norm(vector), rel=1e-6)
    assert 0.4 * SIZE * 4 < result.record.bytes_moved < 0.6 * SIZE * 4  # the part of the other function
    np.testing.assert_array_equal(striped.update(1, "c3")["a.weight"], updates()["c3"]["a.weight"])


def test_parts_are_read_from_the_persistent_store(
    striped: FLStore, large: FLStore, open_store: Callable[..., FLStore], tmp_path: Path
) -> None:
    """A store that is opened again has nothing in memory: the first request already works part by part."""
    root = str(tmp_path / "again")
    with FLStore.local(functions=1, memory="64MiB", root=root) as first:
        first.ingest(1, updates())
        first.ingest(0, {}, aggregate=start())
    store = open_store(functions=2, memory=MEMORY, root=root)
    found = store.request("cosine_similarity", round=1)
    check_equal(found.value, large.request("cosine_similarity", round=1).value)
    assert found.record.misses == CLIENTS  # the newest aggregate is in memory from the start
    store.flush()
    again = store.request("cosine_similarity", round=1)
    assert again.record.hits == CLIENTS + 1
    assert again.record.bytes_moved < 0.01 * ROUND_BYTES


def test_nonfinite_values_in_one_part_are_those_of_the_update(open_store: Callable[..., FLStore]) -> None:
    """Clustering takes an update as origin: the first that is finite in all parts, not only in its own."""
    sent = updates()
    sent["c0"]["b.weight"][-1] = np.nan
    sent["c1"]["a.weight"][0, 0] = np.inf
    store, whole = open_store(functions=2, memory=MEMORY), open_store(functions=1, root="memory://whole-nonfinite")
    for one in (store, whole):
        with pytest.warns(UserWarning, match="NaN"):
            one.ingest(1, sent)
    found = store.request("clustering", round=1, k=2, of="model")
    assert len(set(found.record.functions)) == 2
    assert found.value.nonfinite == ["c0", "c1"]
    expected = whole.request("clustering", round=1, k=2, of="model").value
    np.testing.assert_array_equal(found.value.labels, expected.labels)
    np.testing.assert_allclose(found.value.distances, expected.distances, rtol=1e-4)


def test_a_killed_function_frees_the_other_parts_and_the_round_comes_back(
    open_store: Callable[..., FLStore], large: FLStore
) -> None:
    store = settle(open_store(functions=3, memory=MEMORY))
    slot = next(s for s in store._state.striped if s[1] is Kind.UPDATE)
    victim = store._pool.functions[store._state.striped[slot][0]]
    os.kill(victim.pid, signal.SIGKILL)
    found = store.request("cosine_similarity", round=1)
    check_equal(found.value, large.request("cosine_similarity", round=1).value)
    assert any(isinstance(entry.event, FunctionLost) for entry in store.log)
    store.flush()
    assert len(store._state.striped[slot]) == 2
    state, differing = fold(store.log, policies.make("tailored"))
    assert differing == []
    assert state.striped == store._state.striped
    index = {store._pool.functions[f].name: sum(map(len, held.values())) for f, held in state.holdings().items()}
    assert {name: len(keys) for name, keys in store.inventory().items()} == index


def test_the_part_of_a_function_that_hangs_is_read_by_the_other_as_it_has_room(
    open_store: Callable[..., FLStore], large: FLStore
) -> None:
    """The other one has no scratch space for a whole part, so it takes smaller ones, one after the other."""
    store = settle(open_store(functions=2, memory=MEMORY, ping_deadline_s=0.5))
    hung = store._pool.functions[1]
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        store._pool.sync(hung.silent.wait())
        found = store.request("cosine_similarity", round=1)
        assert found.record.functions == ["function-0"]
        assert found.record.bytes_moved > 0.5 * ROUND_BYTES  # from the persistent store
        check_equal(found.value, large.request("cosine_similarity", round=1).value)
    finally:
        os.kill(hung.pid, signal.SIGCONT)


def test_a_round_larger_than_all_functions_is_answered_range_by_range(
    open_store: Callable[..., FLStore], large: FLStore
) -> None:
    store = open_store(functions=1, memory=1_200_000)
    store.ingest(0, {}, aggregate=start())
    store.ingest(1, updates())
    store.flush()
    found = store.request("clustering", round=1, k=2)
    check_equal(found.value, large.request("clustering", round=1, k=2).value)
    assert store._state.striped == {}
