"""Real strategies on a real grid, observed and bare."""

import random
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import (
    Bulyan,
    DifferentialPrivacyServerSideFixedClipping,
    FedAdagrad,
    FedAvg,
    FedMedian,
    QFedAvg,
    Result,
)

from flstore.errors import InvalidParameterError
from flstore.federated import LocalGrid, observe
from flstore.federated.flower import CLIENT_KEY, CLIENT_RECORD
from flstore.federated.grid import FIRST_NODE_ID

CLIENTS, ROUNDS = 6, 3
INITIAL = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array(0.0)}


def client_app(change: Callable[[int, int, RecordDict], Any] = lambda client, round, content: None) -> ClientApp:
    """Each client adds its own numbers; `change` edits what it replies."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        client, config = int(context.node_config["partition-id"]), message.content["config"]
        w, steps = message.content["arrays"].to_numpy_ndarrays()
        w = w + np.random.default_rng([client, config["server-round"]]).normal(size=w.shape).astype(np.float32)
        content = RecordDict(
            {
                "arrays": ArrayRecord({"w": Array(w), "steps": Array(np.asarray(steps + 1))}),
                "metrics": MetricRecord({"num-examples": client + 1, "train_loss": 0.5, "curve": [1.0, 2.0]}),
                CLIENT_RECORD: ConfigRecord({CLIENT_KEY: f"site-{client}"}),
            }
        )
        change(client, config["server-round"], content)
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        metrics = MetricRecord({"num-examples": 1, "accuracy": client / 10})
        who = ConfigRecord({CLIENT_KEY: f"site-{client}"})
        return Message(RecordDict({"metrics": metrics, CLIENT_RECORD: who}), reply_to=message)

    return app


def everyone(strategy: type = FedAvg, **options) -> Any:
    return strategy(min_train_nodes=CLIENTS, min_evaluate_nodes=CLIENTS, min_available_nodes=CLIENTS, **options)


def train(strategy: Any, app: ClientApp | None = None, rounds: int = ROUNDS) -> Result:
    initial = ArrayRecord({k: Array(v) for k, v in INITIAL.items()})
    random.seed(0)  # Flower draws the order of the clients from it, and sums depend on the order
    with LocalGrid(app or client_app(), CLIENTS) as grid:
        return strategy.start(grid, initial, rounds, train_config=ConfigRecord({"lr": 0.1, "tags": ["a", "b"]}))


def clipped(inner: Any) -> Any:
    return DifferentialPrivacyServerSideFixedClipping(inner, 0.0, 0.5, num_sampled_clients=CLIENTS)


MADE: dict[str, Callable[[], Any]] = {
    "FedAvg": everyone,
    "FedAdagrad": lambda: everyone(FedAdagrad),
    "FedMedian": lambda: everyone(FedMedian),
    "QFedAvg": lambda: everyone(QFedAvg, client_learning_rate=0.1),
    "Bulyan": lambda: everyone(Bulyan, num_malicious_nodes=0),
    "DP": lambda: clipped(everyone()),
}


@pytest.mark.parametrize("name", MADE)
def test_training_is_the_same_bit_for_bit(name: str, recording_store):
    bare = train(MADE[name]())
    strategy = MADE[name]()
    observed = train(observe(recording_store, strategy))
    recording_store.flush()
    assert type(strategy) is type(MADE[name]())
    assert [a.data for a in observed.arrays.values()] == [a.data for a in bare.arrays.values()]
    assert observed.train_metrics_clientapp == bare.train_metrics_clientapp
    assert observed.evaluate_metrics_clientapp == bare.evaluate_metrics_clientapp
    kept = recording_store.aggregates()
    assert sorted(kept) == [0, 1, 2, 3]
    assert all(np.array_equal(kept[3][k], a.numpy()) for k, a in bare.arrays.items())
    assert all(sorted(recording_store.updates(r)) == [f"site-{i}" for i in range(CLIENTS)] for r in (1, 2, 3))


def test_updates_metadata_and_models_are_what_was_sent(recording_store):
    strategy = everyone()
    assert observe(recording_store, strategy) is strategy
    train(strategy)
    recording_store.flush()
    kept = recording_store.aggregates()
    assert all(np.array_equal(kept[0][k], v) and kept[0][k].dtype == v.dtype for k, v in INITIAL.items())
    for r in (1, 2, 3):
        for client, update in recording_store.updates(r).items():
            number = int(client.removeprefix("site-"))
            noise = np.random.default_rng([number, r]).normal(size=(2, 3)).astype(np.float32)
            assert list(update) == ["w", "steps"]
            assert np.array_equal(update["w"], kept[r - 1]["w"] + noise)
            row = recording_store.metadata(r)[client]
            assert row.pop("round_s") >= 0
            assert row.pop("reply_s") >= 0  # not within round_s: messages are made before they are on their way
            assert row.pop("eval_round_s") >= 0
            assert row.pop("eval_reply_s") >= 0
            assert row.pop("reply_bytes") == sum(len(Array(a).data) for a in update.values())
            assert row == {
                "lr": 0.1,
                "num-examples": number + 1,
                "train_loss": 0.5,
                "node_id": str(FIRST_NODE_ID + number),
                "eval_num-examples": 1,
                "eval_accuracy": number / 10,
            }


def test_training_does_not_wait_and_nothing_is_copied(recording_store):
    recording_store.may_go_on.clear()  # the store stands still, training does not
    result = train(observe(recording_store, everyone()))
    assert recording_store.calls == []
    recording_store.may_go_on.set()
    recording_store.flush()
    assert recording_store.threads == {"flstore-feeder"}
    kept = recording_store.aggregates()[ROUNDS]
    assert np.array_equal(kept["w"], result.arrays["w"].numpy())
    memory = np.frombuffer(result.arrays["w"].data, np.uint8)
    assert np.shares_memory(kept["w"], memory)


def test_without_an_id_the_node_id_names_a_client(recording_store):
    train(observe(recording_store, everyone()), client_app(lambda c, r, content: content.pop(CLIENT_RECORD)), rounds=1)
    recording_store.flush()
    assert sorted(recording_store.updates(1)) == [str(FIRST_NODE_ID + i) for i in range(CLIENTS)]


def test_errors_are_metadata_under_the_name_that_the_client_had(recording_store):
    def change(client: int, round: int, content: RecordDict) -> None:
        if client == 2 and round == 2:
            raise OSError("battery empty")

    bare = train(everyone(), client_app(change))
    observed = train(observe(recording_store, everyone()), client_app(change))
    recording_store.flush()
    assert np.array_equal(bare.arrays["w"].numpy(), observed.arrays["w"].numpy())
    assert "site-2" in recording_store.updates(1)
    assert "site-2" not in recording_store.updates(2)
    row = recording_store.metadata(2)["site-2"]
    assert row["error"] == "OSError: battery empty"
    assert row["lr"] == 0.1


def test_a_round_without_any_valid_reply_keeps_the_model(recording_store):
    def change(client: int, round: int, content: RecordDict) -> None:
        if round == 2:
            raise OSError("no power")

    train(observe(recording_store, everyone()), client_app(change))
    recording_store.flush()
    kept = recording_store.aggregates()
    assert sorted(kept) == [0, 1, 2, 3]
    assert np.array_equal(kept[2]["w"], kept[1]["w"])
    assert recording_store.updates(2) == {}
    assert len(recording_store.metadata(2)) == CLIENTS


def test_two_replies_with_one_id(recording_store):
    def change(client: int, round: int, content: RecordDict) -> None:
        content[CLIENT_RECORD][CLIENT_KEY] = "twin" if client in (1, 4) else f"site-{client}"

    with pytest.warns(RuntimeWarning, match=r"Round 1: two replies have the client id 'twin'; that of node"):
        train(observe(recording_store, everyone()), client_app(change), rounds=1)
    recording_store.flush()
    assert len(recording_store.updates(1)) == CLIENTS
    rows = recording_store.metadata(1)
    assert rows["twin"]["num-examples"] == 2
    assert rows[str(FIRST_NODE_ID + 4)]["num-examples"] == 5
    assert {row["node_id"] for row in rows.values()} == {str(FIRST_NODE_ID + i) for i in range(CLIENTS)}


def test_a_reply_without_arrays_is_metadata_alone(recording_store):
    strategy = observe(recording_store, everyone())
    with LocalGrid(client_app(lambda c, r, content: content.pop("arrays") if c == 3 else None), CLIENTS) as grid:
        initial = ArrayRecord({k: Array(v) for k, v in INITIAL.items()})
        replies = grid.send_and_receive(strategy.configure_train(1, initial, ConfigRecord(), grid))
        with pytest.raises(Exception, match="exactly one ArrayRecord"):  # FedAvg's own answer, as without us
            strategy.aggregate_train(1, replies)
    recording_store.flush()
    assert sorted(recording_store.updates(1)) == [f"site-{i}" for i in (0, 1, 2, 4, 5)]
    assert recording_store.metadata(1)["site-3"]["num-examples"] == 4


def test_several_array_records_keep_their_names_apart(recording_store):
    def change(client: int, round: int, content: RecordDict) -> None:
        content["control"] = ArrayRecord({"w": Array(np.full(2, client))})

    class Everything(FedAvg):
        def aggregate_train(self, server_round, replies):
            return None, None

    train(observe(recording_store, everyone(Everything)), client_app(change), rounds=1)
    recording_store.flush()
    update = recording_store.updates(1)["site-5"]
    assert list(update) == ["arrays/w", "arrays/steps", "control/w"]
    assert np.array_equal(update["control/w"], [5, 5])


def test_bfloat16_arrives_as_bfloat16(recording_store):
    def change(client: int, round: int, content: RecordDict) -> None:
        content["arrays"] = ArrayRecord({"w": Array(np.array([1.5, -2], dtype=ml_dtypes.bfloat16))})

    class Everything(FedAvg):
        def aggregate_train(self, server_round, replies):
            return None, None

    train(observe(recording_store, everyone(Everything)), client_app(change), rounds=1)
    recording_store.flush()
    w = recording_store.updates(1)["site-0"]["w"]
    assert w.dtype == ml_dtypes.bfloat16
    assert w.tolist() == [1.5, -2]


def test_observing_again_does_nothing_and_two_stores_both_get_it(recording_store):
    other = type(recording_store)()
    strategy = everyone()
    for store in (recording_store, other, recording_store):
        assert observe(store, strategy) is strategy
    assert len(recording_store.feeders) == len(other.feeders) == 1
    train(strategy, rounds=1)
    for store in (recording_store, other):
        store.flush()
        assert len(store.updates(1)) == CLIENTS
        assert sorted(store.aggregates()) == [0, 1]
    assert sum(bool(c["updates"]) for c in recording_store.calls) == 1


def test_a_store_that_fails_does_not_stop_training(recording_store):
    recording_store.fails = lambda r: OSError(f"round {r} refused") if r == 2 else None
    strategy = observe(recording_store, everyone())

    def train_and_flush() -> Result:
        result = train(strategy)
        with pytest.raises(OSError, match="round 2 refused"):
            recording_store.flush()
        return result

    with pytest.warns(RuntimeWarning, match="Not all of round 2 was recorded: OSError: round 2 refused") as seen:
        observed = train_and_flush()
    assert len([w for w in seen if "Not all" in str(w.message)]) == 1
    assert np.array_equal(observed.arrays["w"].numpy(), train(everyone()).arrays["w"].numpy())
    assert len(recording_store.updates(1)) == len(recording_store.updates(3)) == CLIENTS


@pytest.mark.filterwarnings("ignore:Not all of round")
def test_replies_that_cannot_be_read_do_not_stop_training(recording_store):
    class Odd(FedAvg):
        def aggregate_train(self, server_round, replies):
            return "the model", None

    strategy = observe(recording_store, everyone(Odd))
    assert strategy.aggregate_train(4, [object()]) == ("the model", None)
    with pytest.raises(AttributeError):
        recording_store.flush()


def test_dp_around_an_observed_strategy_shows_clipped_updates(recording_store):
    outer, inner = recording_store, type(recording_store)()
    train(observe(outer, clipped(observe(inner, everyone()))), rounds=1)
    outer.flush()
    inner.flush()

    def moved(store) -> float:
        return max(float(np.linalg.norm(u["w"] - INITIAL["w"])) for u in store.updates(1).values())

    assert moved(outer) > 1.0
    assert moved(inner) < 0.5001


def test_what_is_no_strategy_is_refused(recording_store):
    with pytest.raises(InvalidParameterError, match="str is no Flower strategy"):
        observe(recording_store, "FedAvg")
    assert recording_store.feeders == []
