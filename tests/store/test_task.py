"""A task said once is that of all requests: in a store with functions, in a baseline and in a reader."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.errors import InvalidParameterError
from flstore.task import Task
from flstore.workloads import make
from tests.store.conftest import fill
from tests.store.ready import Ready
from tests.store.test_hangs import wait_until
from tests.store.tiny_models import vectors

MODEL, DATA = "tests.store.tiny_models:vector", "tests.store.tiny_models:vectors"
OPENERS: dict[str, Callable[[str], Any]] = {"baseline": ObjStoreAgg, "reader": FLStore.attach}


def test_a_task_is_what_requests_do_not_say(shared: FLStore) -> None:
    assert shared.task() is None
    with pytest.raises(InvalidParameterError, match=r"incentives needs 'model', 'data'.*store.task\(model="):
        shared.request("incentives", round=2)
    assert shared.task(MODEL, DATA) == shared.task() == Task(MODEL, DATA, "accuracy")
    found = shared.request("incentives", round=2)
    said = shared.request("incentives", round=2, model=MODEL, data=DATA, metric="accuracy")
    assert found.value.tokens.tolist() == said.value.tokens.tolist()
    assert shared.task(metric="loss") == Task(MODEL, DATA, "loss")
    assert shared.request("incentives", round=2).value.metric == "loss"
    assert shared.request("inference", round=2).value.metric == "loss"
    assert shared.request("inference", round=2, metric="accuracy").value.metric == "accuracy"
    # Workloads that need none are as they were, and so is an instance.
    assert shared.request("cosine_similarity", round=2).value.of == "delta"
    assert shared.request("contribution", round=2).value.utility == "cosine_gradient"
    assert shared.request(make("incentives", model=MODEL, data=DATA), round=2).value.metric == "accuracy"
    with pytest.raises(InvalidParameterError, match="nowhere"):
        shared.request("inference", round=2, model="tests.store.tiny_models:nowhere")


@pytest.mark.parametrize("other", sorted(OPENERS))
def test_baselines_and_readers_have_their_own(shared: FLStore, other: str) -> None:
    shared.flush()
    expected = shared.request("inference", round=2, model=MODEL, data=DATA).value.accuracy
    with OPENERS[other](shared.root) as system:
        assert system.task() is None
        system.task(MODEL, DATA)
        assert system.request("inference", round=2).value.accuracy == expected


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_data_in_a_file(open_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    from safetensors.numpy import save_file

    x, y = vectors()
    monkeypatch.chdir(tmp_path)
    if ending == "npz":
        np.savez("held_out.npz", x=x, y=y)
    else:
        save_file({"x": x, "y": y}, "held_out.safetensors")
    store = open_store(root=f"memory://task-{ending}")
    fill(store, range(1, 2))
    # Relative paths are made absolute where they are said: a function's working directory is its own affair.
    assert store.task(MODEL, f"held_out.{ending}").data == os.path.join(os.getcwd(), f"held_out.{ending}")
    monkeypatch.chdir("/")
    result = store.request("inference", round=1).value
    assert result.accuracy == store.request("inference", round=1, data=DATA).value.accuracy
    assert len(result.outputs) == len(x)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": MODEL}, "task needs 'data'"),
        ({"metric": "loss"}, "task needs 'model', 'data'"),
        ({"model": "build", "data": DATA}, "model is an import path, 'package.module:function', not 'build'"),
        ({"model": MODEL, "data": "held_out.csv"}, r"that ends in \.npz or \.safetensors, not 'held_out.csv'"),
        ({"model": MODEL, "data": 3}, "not 3"),
        ({"model": MODEL, "data": DATA, "metric": "f1"}, "metric='f1' is unknown"),
    ],
)
def test_what_is_no_task(tmp_path: Path, given: dict[str, Any], says: str) -> None:
    with ObjStoreAgg(str(tmp_path)) as system:
        with pytest.raises(InvalidParameterError, match=says):
            system.task(**given)
        assert system.task() is None


def test_urls_stay_as_they_are() -> None:
    assert Task(MODEL, "s3://bucket/held_out.npz").data == "s3://bucket/held_out.npz"
    assert Task(MODEL, "~/held_out.npz").data == os.path.expanduser("~/held_out.npz")


def test_a_round_in_parts_is_put_together_for_accuracies_only(open_store: Any) -> None:
    store = open_store(functions=3, memory=150_000, root="memory://task-parts", scratch_share=0.8)  # 30 kB cache each
    fill(store, range(1, 2))
    store.flush()
    store.task(MODEL, DATA)
    store.request("contribution", round=1)
    in_parts = store.request("contribution", round=1)
    assert store._state.striped  # a round has 40 kB
    assert len(in_parts.record.functions) > 1
    together = store.request("contribution", round=1, utility="accuracy")
    assert together.value.total == pytest.approx(float(together.value.values.sum()))
    assert np.isfinite(together.value.values).all()
    assert len(together.value.values) == len(in_parts.value.values)


def test_functions_have_the_model_before_anybody_asks(tmp_path: Path) -> None:
    with FLStore.local(functions=1, memory="16MiB", root=str(tmp_path)) as store:
        assert store.request(Ready()).value.models == []
        store.task(MODEL, DATA)
        wait_until(lambda: store.request(Ready()).value.models == [MODEL])
        store.task("tests.store.tiny_models:nowhere")  # whoever asks will be told
        store.scale(2)
        store.task(MODEL)
        store.scale(1)
        wait_until(lambda: store.request(Ready()).value.models == [MODEL])
