"""Stored models go back into training, and it goes on as if it had never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from flstore.baselines import ObjStoreAgg
from flstore.errors import InvalidParameterError, UpdateNotFoundError
from flstore.federated import resume
from flstore.tensors import DTYPES

MODEL = {
    "second": np.arange(6, dtype=np.float32).reshape(2, 3),
    "first": np.array([1.5, -2.0], ml_dtypes.bfloat16),
    "half": np.array([0.5, 3.0], np.float16),
    "steps": np.array(7, np.int64),
}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with ObjStoreAgg(str(tmp_path)) as found:
        found.ingest(0, {}, aggregate=MODEL)
        for r in (1, 2, 5):
            sent = {name: array + r for name, array in MODEL.items()}
            found.ingest(r, {"a": {n: v.astype(MODEL[n].dtype) for n, v in sent.items()}}, aggregate=MODEL)
        yield found


def test_a_state_dict_has_the_names_order_dtypes_and_values_and_is_the_callers_own(store: ObjStoreAgg):
    torch = pytest.importorskip("torch")
    state = store.restore(0)
    assert list(state) == list(MODEL)
    dtypes = [torch.float32, torch.bfloat16, torch.float16, torch.int64]
    assert [tensor.dtype for tensor in state.values()] == dtypes
    for name, tensor in state.items():
        assert tensor.shape == MODEL[name].shape
        np.testing.assert_array_equal(tensor.double().numpy(), MODEL[name].astype("f8"))
        tensor.add_(1)
    np.testing.assert_array_equal(store.aggregate(0)["second"], MODEL["second"])
    assert store.restore(2, client="a")["steps"].item() == 9


def test_every_dtype_that_can_be_stored_becomes_the_tensor_that_it_was(tmp_path: Path):
    torch = pytest.importorskip("torch")
    tensors = {tag: torch.ones(3, dtype=getattr(torch, dtype.name)) for tag, dtype in DTYPES.items()}
    with ObjStoreAgg(str(tmp_path)) as store:
        store.ingest(0, {}, aggregate={tag: np.ones(3).astype(dtype) for tag, dtype in DTYPES.items()})
        for tag, tensor in store.restore(0).items():
            assert tensor.dtype == tensors[tag].dtype
            assert bytes(tensor.view(torch.uint8).numpy()) == bytes(tensors[tag].view(torch.uint8).numpy())


def test_an_array_record_is_what_flower_would_have_made(store: ObjStoreAgg):
    flower = pytest.importorskip("flwr.app")
    record = store.restore(0, kind="array_record")
    assert list(record) == list(MODEL)
    for name, array in MODEL.items():
        expected = flower.Array(array)
        assert (record[name].dtype, record[name].shape) == (array.dtype.name, array.shape)
        assert (record[name].stype, record[name].data) == (expected.stype, expected.data)


def test_arrays_can_be_written(store: ObjStoreAgg):
    arrays = store.restore(1, client="a", kind="arrays")
    arrays["first"] += 1
    assert arrays["first"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(store.update(1, "a")["second"], MODEL["second"] + 1)


def test_what_does_not_exist_is_named_with_what_does(store: ObjStoreAgg):
    with pytest.raises(UpdateNotFoundError, match=r"no aggregate of round 4; nearest rounds with one: 1, 2, 5"):
        store.restore(4)
    with pytest.raises(UpdateNotFoundError, match="clients of that round: a"):
        store.restore(2, client="b")
    with pytest.raises(UpdateNotFoundError, match="nearest rounds: 1, 2, 5"):
        store.restore(4, client="a")
    with pytest.raises(InvalidParameterError, match="'state_dict', 'array_record', 'arrays'"):
        store.restore(2, kind="tensor")


def test_resume_says_what_is_wrong():
    with pytest.raises(InvalidParameterError, match="from 0 on, got -1"):
        resume(object(), after=-1)
    with pytest.raises(InvalidParameterError, match="object is no Flower strategy"):
        resume(object(), after=1)


# --- training goes on -----------------------------------------------------------------------------------------------


def client_app() -> Any:
    """Every client draws its step from the round and its own number."""
    from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def train(message: Message, context: Any) -> Message:
        number = int(context.node_config["partition-id"])
        round = int(message.content["config"]["server-round"])
        rng = np.random.default_rng([round, number])
        weights = message.content["arrays"]["w"].numpy()
        moved = (0.9 * weights + rng.normal(size=weights.shape)).astype(weights.dtype)
        content = RecordDict({"arrays": ArrayRecord({"w": Array(moved)})})
        content["metrics"] = MetricRecord({"num-examples": number + 1})
        content["flstore"] = ConfigRecord({"client-id": str(number)})
        return Message(content, reply_to=message)

    return app


def train(store: Any, initial: Any, rounds: int, after: int = 0) -> Any:
    from flwr.serverapp.strategy import FedAvg

    from flstore.federated import LocalGrid
    from flstore.federated.scopes import quiet, seeded_sampling

    with quiet(50):
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3)
    store.observe(strategy)
    with quiet(50), seeded_sampling(strategy, 0), LocalGrid(client_app(), clients=3) as grid:
        if after:
            resume(strategy, after=after)
        return strategy.start(grid, initial, num_rounds=rounds)


def test_flower_goes_on_from_a_stored_round_as_if_it_had_never_stopped(tmp_path: Path):
    flower = pytest.importorskip("flwr.app")
    initial = flower.ArrayRecord({"w": flower.Array(np.linspace(-1, 1, 40).astype("f4"))})
    with ObjStoreAgg(str(tmp_path / "whole")) as whole:
        train(whole, initial, rounds=4)
    with ObjStoreAgg(str(tmp_path / "parts")) as store:
        train(store, initial, rounds=2)
    with ObjStoreAgg(str(tmp_path / "parts")) as store:
        train(store, store.restore(2, kind="array_record"), rounds=2, after=2)
    with ObjStoreAgg(str(tmp_path / "whole")) as whole, ObjStoreAgg(str(tmp_path / "parts")) as store:
        assert store.rounds() == whole.rounds() == [1, 2, 3, 4]
        for r in store.rounds():
            np.testing.assert_array_equal(store.aggregate(r)["w"], whole.aggregate(r)["w"])
            for client in whole.clients(r):
                np.testing.assert_array_equal(store.update(r, client)["w"], whole.update(r, client)["w"])


@pytest.mark.filterwarnings("ignore:Not all of round:RuntimeWarning")
def test_without_resume_the_rounds_would_be_those_of_the_beginning(tmp_path: Path):
    flower = pytest.importorskip("flwr.app")
    initial = flower.ArrayRecord({"w": flower.Array(np.linspace(-1, 1, 40).astype("f4"))})
    with ObjStoreAgg(str(tmp_path)) as store:
        train(store, initial, rounds=1)
        store.flush()
        train(store, store.restore(1, kind="array_record"), rounds=1)
        with pytest.raises(FileExistsError):
            store.flush()


def test_the_older_interface_of_flower_counts_on_too():
    class Old:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> list[Any]:
            self.seen.append(server_round)
            return []

        def aggregate_fit(self, server_round: int, results: Any, failures: Any) -> tuple[None, dict[str, Any]]:
            self.seen.append(server_round)
            return None, {}

        def evaluate(self, server_round: int, parameters: Any) -> None:
            self.seen.append(server_round)

    strategy = resume(Old(), after=7)
    strategy.configure_fit(server_round=1, parameters=None, client_manager=None)
    strategy.aggregate_fit(1, [], [])
    strategy.evaluate(1, None)
    assert strategy.seen == [8, 8, 8]
