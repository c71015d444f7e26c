import gc
import logging
import random
import weakref

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import FedAvg
from PIL import Image

from flstore.errors import InvalidParameterError, StoreError, UnknownNameError
from flstore.federated import SETTINGS, LocalGrid, Settings, build, client_app, observe, run, state_arrays

TINY = {"model": "mobilenet_v3_small", "rounds": 2, "per_round": 3, "clients": 20, "max_batches": 1, "progress": False}


def with_observe(store):
    store.observe = lambda strategy: observe(store, strategy)
    return store


def test_a_run_is_recorded_whole(recording_store):
    history = run(**TINY, store=with_observe(recording_store))
    recording_store.flush()
    assert len(history.accuracy) == len(history.loss) == len(history.seconds) == 3
    assert np.isnan(history.train_loss[0])
    assert all(x > 0 for x in history.train_loss[1:])
    names = list(state_arrays(build("mobilenet_v3_small")))
    kept = recording_store.aggregates()
    assert sorted(kept) == [0, 1, 2]
    initial = state_arrays(build("mobilenet_v3_small", seed=0))
    assert all(np.array_equal(kept[0][k], v) for k, v in initial.items())
    assert list(history.arrays) == names
    assert all(np.array_equal(kept[2][k], v) for k, v in history.arrays.items())
    for r in (1, 2):
        updates = recording_store.updates(r)
        assert len(updates) == 3
        assert all(0 <= int(c) < 20 for c in updates)
        assert all(list(u) == names for u in updates.values())
        for row in recording_store.metadata(r).values():
            config = {"model": "mobilenet_v3_small", "max-batches": 1, "alpha": 1.0, "data": "digits"}
            assert {**config, **SETTINGS["mobilenet_v3_small"].config()}.items() <= row.items()
            assert row["num-examples"] >= 2
            assert 0 < row["duration_s"] < row["reply_s"]
            assert row["batches"] == 1
            assert 0 <= row["train_accuracy"] <= 1
            size = sum(array.nbytes for array in initial.values())
            assert size < row["upload_bytes"] < 1.1 * size
            assert size < row["download_bytes"] < 1.1 * size
            assert 1 <= row["cores"] <= 4096
            assert row["memory_bytes"] > 1 << 28
    frame = history.frame()
    assert list(frame.columns) == ["accuracy", "loss", "train_loss", "seconds"]
    assert frame.index.tolist() == [0, 1, 2]
    assert repr(history).startswith("RunHistory(mobilenet_v3_small: accuracy ")
    assert len(repr(history)) < 100


def test_equal_seeds_are_equal_runs_and_leave_no_trace(recording_store):
    logger, strategy = logging.getLogger("flwr"), FedAvg(fraction_evaluate=0.0, fraction_train=0.15)
    before = random.getstate(), logger.level, torch.get_num_threads(), torch.random.get_rng_state()
    one = run(**TINY, store=with_observe(recording_store))
    after = random.getstate(), logger.level, torch.get_num_threads(), torch.random.get_rng_state()
    assert before[:3] == after[:3]
    assert torch.equal(before[3], after[3])
    random.random()  # another state, the same clients
    same, other = run(**TINY, strategy=strategy), run(**TINY, seed=1)
    assert not {"configure_train", "configure_evaluate", "aggregate_train"} & set(vars(strategy))
    assert all(np.array_equal(v, same.arrays[k]) for k, v in one.arrays.items())
    assert one.accuracy == same.accuracy
    assert one.loss == same.loss
    assert not all(np.array_equal(v, other.arrays[k]) for k, v in one.arrays.items())


def test_clients_evaluate_when_the_strategy_asks(recording_store):
    strategy = FedAvg(fraction_train=0.1, fraction_evaluate=0.1, min_train_nodes=2, min_evaluate_nodes=2)
    run(**{**TINY, "rounds": 1}, strategy=strategy, store=with_observe(recording_store))
    recording_store.flush()
    rows = [row for row in recording_store.metadata(1).values() if "eval_accuracy" in row]
    assert len(rows) == 2
    assert all(0 <= row["eval_accuracy"] <= 1 and row["eval_loss"] > 0 for row in rows)


def test_two_rounds_of_replies_are_never_in_memory_together():
    alive = weakref.WeakSet()
    counts = []

    class Counting(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            gc.collect()
            counts.append(len(alive))
            return super().configure_train(server_round, arrays, config, grid)

        def aggregate_train(self, server_round, replies):
            alive.update(replies)
            counts.append(len(alive))
            return super().aggregate_train(server_round, replies)

    strategy = Counting(fraction_train=0.1, fraction_evaluate=0.0, min_train_nodes=2)
    run(**TINY, strategy=strategy)
    assert counts == [0, 2, 0, 2]


def test_one_client_can_be_enough():
    assert len(run(**{**TINY, "rounds": 1, "clients": 1, "per_round": 1}).accuracy) == 2


@pytest.mark.parametrize(
    "bad",
    [
        {"rounds": 0},
        {"settings": Settings(), "rounds": -1},
        {"per_round": 0},
        {"per_round": 21},
        {"clients": 0},
        {"max_batches": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
    ],
)
def test_out_of_range(bad: dict):
    with pytest.raises(InvalidParameterError, match=f"{list(bad)[-1]}="):
        run(**{**TINY, **bad})


def test_nodes_that_somebody_else_started():
    two = {**TINY, "clients": 2, "per_round": 2, "rounds": 1}
    here = run(**two, faults={"1": "scaled"})
    with LocalGrid(client_app({"1": "scaled"}), 2) as grid:
        elsewhere = run(**two, grid=grid)
        assert all(np.array_equal(v, here.arrays[k]) for k, v in elsewhere.arrays.items())
        with pytest.raises(InvalidParameterError, match="cannot reach clients behind a grid"):
            run(**two, grid=grid, faults={"1": "scaled"})


def test_unknown_model():
    with pytest.raises(UnknownNameError, match="'resnet18'"):
        run("resnet")


def test_what_is_said_wins_over_the_settings_and_these_over_the_table(recording_store):
    tiny = {k: v for k, v in TINY.items() if k not in ("rounds", "max_batches")}
    settings = Settings(rounds=1, optimizer="adamw", lr=3e-4, epochs=1, batch_size=64)
    history = run(**tiny, settings=settings, lr=4e-4, store=with_observe(recording_store))
    recording_store.flush()
    assert len(history.accuracy) == 2
    for row in recording_store.metadata(1).values():
        assert (row["optimizer"], row["epochs"], row["batch-size"], row["batches"]) == ("adamw", 1, 64, 1)
        assert row["lr"] == 4e-4


def test_other_splits_and_folders_are_trained_on(tmp_path, recording_store):
    with pytest.raises(StoreError, match="data_root"):
        run(**TINY, data="folder", data_root=tmp_path / "none")
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(5):
            Image.new("RGB", (8, 8), "red" if label == "a" else "blue").save(tmp_path / label / f"{i}.png")
    tiny = {**TINY, "clients": 3, "rounds": 1}
    history = run(**tiny, data="folder", data_root=tmp_path, split="iid", store=with_observe(recording_store))
    recording_store.flush()
    assert history.arrays["classifier.3.bias"].shape == (2,)
    rows = recording_store.metadata(1).values()
    assert sorted(row["num-examples"] for row in rows) == [2, 3, 3]
    assert {row["split"] for row in rows} == {"iid"}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet18", "efficientnet_v2_s"])
def test_models_learn_with_their_settings(model: str):
    """One with each optimizer; the other two are in the experiment ``learning``, because they take longer."""
    history = run(model, progress=False)
    print(history.frame())
    assert history.accuracy[0] < 0.3
    assert history.accuracy[-1] > 0.8
