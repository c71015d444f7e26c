"""Real Flower updates in a real store: what training sent is what the store answers from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.federated import run
from tests.store.test_requests import REQUESTS, assert_same

TRAINING: dict[str, Any] = {"model": "mobilenet_v3_small", "clients": 6, "per_round": 4, "max_batches": 1, "seed": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Four rounds of Flower into a store, and the history of the training."""
    root = str(tmp_path_factory.mktemp("flower"))
    with FLStore.local(functions=2, memory="1GiB", root=root) as store:
        history = run(rounds=4, store=store, progress=False, **TRAINING)
        store.flush()
        yield store, history


def test_every_update_aggregate_and_metric_of_the_training_is_there(trained: Any) -> None:
    store, history = trained
    assert store.rounds() == [1, 2, 3, 4]
    assert all(len(store.clients(r)) == 4 for r in store.rounds())
    final = store.aggregate(4)
    assert final.keys() == history.arrays.keys()
    for name, array in history.arrays.items():
        np.testing.assert_array_equal(final[name], array)
    frame = store.metadata()
    assert len(frame) == 16
    assert np.isfinite(frame["train_loss"]).all()
    assert (frame["num-examples"] > 0).all()
    assert (frame["nonfinite"] == 0).all()


def test_the_stored_updates_average_to_the_stored_aggregate(trained: Any) -> None:
    """FedAvg by hand, from what the store kept: weighted by the samples that the metadata tells."""
    store, _ = trained
    weights = store.metadata(2)["num-examples"].droplevel("round")
    updates = {c: store.update(2, c) for c in store.clients(2)}
    aggregate = store.aggregate(2)
    name = "features.0.0.weight"
    mean = sum(updates[c][name].astype("f8") * weights[c] for c in updates) / weights.sum()
    np.testing.assert_allclose(aggregate[name], mean, rtol=1e-4, atol=1e-6)


def test_flstore_and_objstore_agg_answer_alike_on_real_updates(trained: Any) -> None:
    """All workloads; equal but for floats, which may differ by 1e-9 relative."""
    store, _ = trained
    client = max(store.clients(), key=lambda c: sum(c in store.clients(r) for r in store.rounds()))
    at = max(r for r in store.rounds() if client in store.clients(r))
    with ObjStoreAgg(store.root) as baseline:
        for workload, params in REQUESTS:
            scope = {**params, **({"client": client} if "client" in params else {})}
            if "client" in params and "round" in params:
                scope["round"] = at
            if "model" in params:
                scope |= {"model": "tests.store.tiny_models:mobilenet", "data": "tests.store.tiny_models:images"}
            assert_same(store.request(workload, **scope).value, baseline.request(workload, **scope).value)


def test_observing_does_not_change_training(trained: Any) -> None:
    _, observed = trained
    alone = run(rounds=4, progress=False, **TRAINING)
    assert alone.accuracy == observed.accuracy
    for name, array in alone.arrays.items():
        np.testing.assert_array_equal(array, observed.arrays[name])


def test_training_again_into_the_same_root_is_a_no_op(trained: Any, tmp_path: Path) -> None:
    """Same seeds, same bytes: nothing is written twice, nothing is refused."""
    store, _ = trained
    run(rounds=2, store=store, progress=False, **TRAINING)
    store.flush()
    assert store.rounds() == [1, 2, 3, 4]
