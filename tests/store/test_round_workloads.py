"""Aggregation, debugging and scheduling through a real store: the answers of this process, and the class of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from flstore import FLStore
from flstore.errors import InvalidParameterError
from flstore.testing.sample_job import SampleJob
from flstore.workloads import Inputs, Scope, make
from tests.workloads import tiny

TASK = {"model": "tests.workloads.tiny:build", "data": "tests.workloads.tiny:data"}
QUESTIONS: list[tuple[str, dict[str, Any], str]] = [
    ("aggregation", {}, "P2"),
    ("aggregation", {"rule": "trimmed_mean", "trim": 0.3}, "P2"),
    ("debugging", TASK, "P2"),
    ("debugging", {"model": TASK["model"], "shape": tiny.SHAPE, "faulty": 2}, "P2"),
    ("scheduling_performance", {"by": "oort", "count": 2}, "P4"),
    ("scheduling_performance", {"count": 2, **TASK}, "P2"),
    ("scheduling_similarity", {"count": 2}, "P2"),
]


def rounds() -> Iterator[tuple[int, dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Round, updates, aggregate, metadata."""
    start = tiny.state()
    for round in (1, 2):
        updates = {f"c{i}": tiny.trained(2 * round, start, seed=10 * round + i) for i in range(5)}
        rows = {c: {"num-examples": 10 + i, "train_loss": 1.0 / (i + round)} for i, c in enumerate(updates)}
        yield round, updates, {name: array + 0 for name, array in updates["c0"].items()}, rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FLStore]:
    with FLStore.local(functions=1, memory="64MiB", root=str(tmp_path_factory.mktemp("rounds"))) as opened:
        for round, updates, aggregate, rows in rounds():
            opened.ingest(round, updates, aggregate=aggregate, metadata=rows)
        yield opened


@pytest.fixture(scope="module")
def sample() -> SampleJob:
    job = SampleJob("default")
    for round, updates, aggregate, rows in rounds():
        job.add(round, updates, aggregate, rows)
    return job


@pytest.mark.parametrize(("name", "params", "policy_class"), QUESTIONS)
def test_a_store_answers_as_this_process_does(
    store: FLStore, sample: SampleJob, name: str, params: dict[str, Any], policy_class: str
) -> None:
    workload, scope = make(name, **params), Scope("default", 2)
    expected = workload.compute(Inputs(scope, {key: sample.read(key) for key in workload.needs(scope, sample)}))
    result = store.request(name, round=2, **params)
    found, wanted = (dataclasses.asdict(value) for value in (result.value, expected))
    np.testing.assert_equal(found, wanted)
    assert result.record.policy_class == policy_class
    assert store.requests["policy_class"].iloc[-1] == policy_class
    if policy_class == "P4":  # kept from the start, unlike updates, which the first request asks for
        assert result.record.misses == 0


def test_an_aggregate_can_be_ingested_as_it_came_back_also_in_bfloat16(open_store: Any) -> None:
    store = open_store()
    updates = {c: {"w": (np.arange(6) * i).astype(ml_dtypes.bfloat16), "n": np.array(i)} for i, c in enumerate("abc")}
    store.ingest(1, updates)
    tensors = store.request("aggregation", round=1).value.tensors
    store.ingest(1, {}, aggregate=tensors)
    stored = store.aggregate(1)
    assert stored["w"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(stored["w"].astype(float), np.arange(6))
    assert stored["n"] == 1


def test_what_is_asked_for_wrongly_is_told_before_anything_is_read(store: FLStore) -> None:
    with pytest.raises(InvalidParameterError, match="count=6, but the round has 5 clients"):
        store.request("scheduling_similarity", round=2, count=6)
    with pytest.raises(InvalidParameterError, match="faulty=6, but the round has 5 clients"):
        store.request("debugging", round=2, faulty=6, **TASK)
