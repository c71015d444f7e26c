"""Requests are answered where the data is, and equal those of the object-store baseline."""

import dataclasses
import os
from concurrent.futures import wait
from typing import Any

import numpy as np
import pytest

from flstore import FLStore, workloads
from flstore.baselines import ObjStoreAgg
from flstore.errors import RequestTimeoutError
from tests.store.conftest import CLIENTS, fill, make_aggregate, make_round

NET = {"model": "tests.store.tiny_models:vector", "data": "tests.store.tiny_models:vectors"}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("cosine_similarity", {"round": 2}),
    ("cosine_similarity", {"round": 2, "of": "model"}),
    ("malicious_filtering", {"round": 3}),
    ("clustering", {"round": 3, "k": 2}),
    ("lineage", {"client": "c1", "round": 4}),
    ("lineage", {"client": "c1"}),
    ("inference", {"round": 2, **NET}),
    ("personalization", {"round": 3, "clusters": 2, "k": 2, **NET}),
    ("incentives", {"round": 3, **NET}),
    ("contribution", {"round": 3}),
    ("contribution", {"round": 3, "utility": "accuracy", **NET}),
    ("aggregation", {"round": 3, "rule": "median"}),
    ("debugging", {"round": 3, **NET}),
    ("scheduling_similarity", {"round": 3, "count": 2}),
    ("scheduling_performance", {"round": 3, "count": 2, **NET}),
    ("scheduling_performance", {"round": 3, "count": 2, "by": "oort"}),
    ("hyperparameters", {}),
    ("hyperparameters", {"round": 3, "last": 2}),
]


def assert_same(left: Any, right: Any) -> None:
    """Equal results: exact for all but floats, which may differ in the last digits (relative 1e-9)."""
    assert type(left) is type(right)
    if dataclasses.is_dataclass(left):
        for f in dataclasses.fields(left):
            assert_same(getattr(left, f.name), getattr(right, f.name))
    elif isinstance(left, np.ndarray) and left.dtype.kind == "f":
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-12)
    elif isinstance(left, np.ndarray):
        np.testing.assert_array_equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    elif isinstance(left, float):
        assert left == pytest.approx(right, rel=1e-9, nan_ok=True)
    else:
        assert left == right


@pytest.mark.parametrize(("workload", "params"), REQUESTS)
def test_flstore_and_objstore_agg_answer_alike(shared: FLStore, workload: str, params: dict[str, Any]) -> None:
    shared.flush()
    with ObjStoreAgg(shared.root) as baseline:
        theirs = baseline.request(workload, **params)
    ours = shared.request(workload, **params)
    assert_same(ours.value, theirs.value)
    assert theirs.record.misses > 0
    assert theirs.record.hits == 0
    assert ours.record.hits + ours.record.late_hits + ours.record.misses == theirs.record.misses


def test_the_answers_are_those_of_numpy(shared: FLStore) -> None:
    found = shared.request("cosine_similarity", round=3).value
    deltas = np.stack([make_round(3)[c]["w"].astype("f8") - make_aggregate(2)["w"] for c in found.clients])
    unit = deltas / np.linalg.norm(deltas, axis=1, keepdims=True)
    assert found.of == "delta"
    np.testing.assert_allclose(found.similarity, unit @ unit.T, atol=1e-5)


def test_work_runs_in_a_function_not_in_the_caller(open_store: Any) -> None:
    store = open_store(functions=2)
    fill(store, range(1, 3))
    record = store.request("clustering", round=1, k=2).record
    pids = {f.name: f.pid for f in store._pool.functions.values()}
    assert record.functions[-1] in pids
    assert os.getpid() not in pids.values()


def test_the_first_request_misses_and_arms_and_the_next_rounds_hit(open_store: Any) -> None:
    store = open_store(functions=2)
    fill(store, range(1, 4))
    first = store.request("clustering", round=1, k=2).record
    # Only the newest aggregate (P1) and metadata (P4) are held before a request; round 1 reads aggregate 0 as well.
    assert (first.hits, first.late_hits, first.misses) == (0, 0, CLIENTS + 1)
    store.flush()
    for r in (2, 3):
        record = store.request("clustering", round=r, k=2).record
        assert (record.hits, record.misses, record.bytes_moved) == (CLIENTS + 1, 0, 0)
    fill(store, range(4, 5))  # an armed cursor takes in what arrives
    store.flush()
    assert store.request("clustering", round=4, k=2).record.misses == 0
    assert set(store.rounds()) == {1, 2, 3, 4}


def test_metadata_is_there_from_the_start(shared: FLStore) -> None:
    record = shared.request("hyperparameters").record
    assert record.misses == 0
    frame = shared.metadata(2)
    assert frame.loc[(2, "c3"), "loss"] == 1.5
    assert frame.loc[(2, "c0"), "nonfinite"] == 0
    assert len(shared.metadata()) == 5 * CLIENTS


def test_later_metadata_is_merged_and_reaches_the_function(open_store: Any) -> None:
    store = open_store()
    fill(store, range(1, 3))
    store.ingest(2, {}, metadata={"c1": {"accuracy": 0.75}})
    frame = store.request("hyperparameters").value.frame()
    row = frame.loc[(2, "c1")]
    assert (row["accuracy"], row["loss"]) == (0.75, 0.5)
    assert store.metadata(2).loc[(2, "c1"), "accuracy"] == 0.75


def test_many_requests_at_once(shared: FLStore) -> None:
    futures = [shared.submit("clustering", round=1 + i % 5, k=2, seed=i) for i in range(100)]
    _, not_done = wait(futures, timeout=60)
    assert not not_done
    again = shared.request("clustering", round=4, k=2, seed=3).value
    assert_same(futures[3].result().value, again)
    assert len({f.result().record.request for f in futures}) == 100


def test_requests_is_a_frame_with_measured_seconds(shared: FLStore) -> None:
    shared.request("cosine_similarity", round=5)
    frame = shared.requests
    last = frame.iloc[-1]
    assert (last["system"], last["workload"], last["policy_class"], last["status"]) == (
        "FLStore", "cosine_similarity", "P2", "done",
    )  # fmt: skip
    assert last["latency_s"] >= last["compute_s"] > 0


def test_a_deadline_is_kept_and_named(shared: FLStore) -> None:
    with pytest.raises(RequestTimeoutError, match="clustering was not answered"):
        shared.request("clustering", round=1, k=2, deadline_s=0.0)
    assert shared.requests.iloc[-1]["status"] == "failed"
    assert shared.request("clustering", round=1, k=2, deadline_s=60).value.k == 2


def test_updates_aggregates_and_lists_come_back_as_they_went_in(shared: FLStore) -> None:
    assert shared.rounds() == [1, 2, 3, 4, 5]
    assert shared.clients(2) == shared.clients() == [f"c{i}" for i in range(CLIENTS)]
    np.testing.assert_array_equal(shared.update(2, "c3")["w"], make_round(2)["c3"]["w"])
    np.testing.assert_array_equal(shared.aggregate(0)["w"], make_aggregate(0)["w"])


def test_a_memory_root_runs_without_processes() -> None:
    with FLStore.local(functions=2, memory="16MiB", root="memory://requests-test") as store:
        fill(store, range(1, 3))
        assert store.request("clustering", round=1, k=2).value.k == 2
        assert {f.pid for f in store._pool.functions.values()} == {os.getpid()}


def test_every_workload_by_name_is_known_to_the_test_above() -> None:
    assert {name for name, _ in REQUESTS} == set(workloads.names())
