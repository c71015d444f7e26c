"""Every strategy that Flower brings, in the message interface: bit for bit the same, observed or not."""

import inspect
import random
from collections.abc import Callable
from typing import Any

import flwr.serverapp.strategy as shipped
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import adaptiveclipping_mod, fixedclipping_mod
from flwr.serverapp.strategy import Result, Strategy
from flwr.serverapp.strategy.fedopt import FedOpt

from flstore.federated import LocalGrid, identify, observe

CLIENTS, ROUNDS = 5, 3
NODES = {"min_train_nodes": CLIENTS, "min_evaluate_nodes": CLIENTS, "min_available_nodes": CLIENTS}
BUILT_IN = {
    name: cls
    for name in shipped.__all__
    if inspect.isclass(cls := getattr(shipped, name)) and issubclass(cls, Strategy) and cls is not Strategy
}
OPTIONS: dict[str, dict[str, Any]] = {
    "QFedAvg": {"client_learning_rate": 0.1},
    "FedProx": {"proximal_mu": 0.1},
    "FedXgbCyclic": {"min_available_nodes": CLIENTS},
}
TREES = (
    '{"learner":{"gradient_booster":{"model":{"gbtree_model_param":{"num_trees":"1","num_parallel_tree":"1"},'
    '"iteration_indptr":[0,1],"trees":[{"id":0,"leaf":%d}],"tree_info":[0]}}}}'
)


def make(name: str) -> Any:
    """An instance; the wrappers for differential privacy go around FedAvg."""
    cls = BUILT_IN[name]
    if name.startswith("DifferentialPrivacy"):
        norm = {"clipping_norm": 0.5} if "Fixed" in name else {}
        return cls(shipped.FedAvg(**NODES), noise_multiplier=0.1, num_sampled_clients=CLIENTS, **norm)
    return cls(**(NODES if name != "FedXgbCyclic" else {}), **OPTIONS.get(name, {}))


def app(name: str) -> ClientApp:
    mods = [m for word, m in (("SideFixed", fixedclipping_mod), ("SideAdaptive", adaptiveclipping_mod)) if word in name]
    made = ClientApp(mods=mods if "ClientSide" in name else [])

    @made.train()
    def train(message: Message, context: Context) -> Message:
        client, round = int(context.node_config["partition-id"]), message.content["config"]["server-round"]
        if "Xgb" in name:
            arrays = ArrayRecord([np.frombuffer((TREES % client).encode(), np.uint8)])
        else:
            rng = np.random.default_rng([client, round])
            own = [a + rng.normal(size=a.shape).astype(a.dtype) for a in message.content["arrays"].to_numpy_ndarrays()]
            names = message.content["arrays"]
            arrays = ArrayRecord({k: Array(a) for k, a in zip(names, own, strict=True)})
        metrics = MetricRecord({"num-examples": client + 1, "train_loss": 0.5 + client})
        return identify(Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message), f"c{client}")

    @made.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 1, "accuracy": 0.5})
        content = RecordDict({"metrics": metrics})
        return Message(identify(content, f"c{context.node_config['partition-id']}"), reply_to=message)

    return made


def run(name: str, strategy: Any) -> Result:
    if "Xgb" in name:
        initial = ArrayRecord([np.frombuffer((TREES % 99).encode(), np.uint8)])
    else:
        initial = ArrayRecord({"w": Array(np.ones((2, 3), np.float32)), "b": Array(np.zeros(3, np.float32))})
    random.seed(0)  # Flower draws clients from the one, noise from the other
    np.random.seed(0)
    with LocalGrid(app(name), CLIENTS) as grid:
        return strategy.start(grid, initial, ROUNDS, train_config=ConfigRecord({"lr": 0.1}))


def attributes(strategy: Any) -> dict[str, Any]:
    kept = {k: v for k, v in vars(strategy).items() if not k.startswith("_flstore") and not hasattr(type(strategy), k)}
    return {k: repr(v) for k, v in kept.items() if not isinstance(v, Strategy) and "object at" not in repr(v)}


@pytest.mark.parametrize("name", BUILT_IN)
def test_training_is_the_same_bit_for_bit(name: str, recording_store):
    alone = make(name)
    bare = run(name, alone)
    strategy = make(name)
    before = attributes(strategy)
    assert observe(recording_store, observe(recording_store, strategy)) is strategy
    assert type(strategy) is BUILT_IN[name]
    assert attributes(strategy) == before
    observed = run(name, strategy)
    recording_store.flush()
    assert attributes(strategy) == attributes(alone)
    assert {k: a.data for k, a in observed.arrays.items()} == {k: a.data for k, a in bare.arrays.items()}
    assert observed.train_metrics_clientapp == bare.train_metrics_clientapp
    assert observed.evaluate_metrics_clientapp == bare.evaluate_metrics_clientapp
    kept = recording_store.aggregates()
    assert sorted(kept) == list(range(ROUNDS + 1))
    assert all(np.array_equal(kept[ROUNDS][k], a.numpy()) for k, a in bare.arrays.items())
    asked = 1 if name == "FedXgbCyclic" else CLIENTS
    for r in range(1, ROUNDS + 1):
        assert len(recording_store.updates(r)) == asked
        assert all(row["lr"] == 0.1 and row["reply_bytes"] > 0 for row in recording_store.metadata(r).values())


def test_all_that_flower_has_are_among_them():
    """FedOpt alone is no strategy of its own: it is the base of three, and aggregates nothing itself."""
    found, waiting = set(), [Strategy]
    while waiting:
        waiting += (children := waiting.pop().__subclasses__())
        found |= {c for c in children if c.__module__.startswith("flwr.") and not inspect.isabstract(c)}
    bases = {c for c in found if c.__name__.endswith("Base")}
    assert found - bases - set(BUILT_IN.values()) <= {FedOpt}


def small(store: Any, round: int) -> Callable[[str], float]:
    before = store.aggregates()[round - 1]
    flat = {c: np.concatenate([(u[k] - before[k]).ravel() for k in u]) for c, u in store.updates(round).items()}
    return lambda client: float(np.linalg.norm(flat[client]))


@pytest.mark.parametrize("side", ["Server", "Client"])
@pytest.mark.parametrize("kind", ["Fixed", "Adaptive"])
def test_what_each_order_of_differential_privacy_sees(side: str, kind: str, recording_store):
    """Outside: what was sent, and the model after noise. Inside: clipped by the server, and the model before noise."""
    name = f"DifferentialPrivacy{side}Side{kind}Clipping"
    inner, limit = type(recording_store)(), 0.5001 if kind == "Fixed" else 0.1001
    strategy = make(name)
    observe(inner, strategy.strategy)
    result = run(name, observe(recording_store, strategy))
    for store in (recording_store, inner):
        store.flush()
    outside, inside = small(recording_store, 1), small(inner, 1)
    assert all(inside(f"c{i}") <= limit for i in range(CLIENTS))
    sent_clipped = side == "Client"
    assert all((outside(f"c{i}") <= limit) == sent_clipped for i in range(CLIENTS))
    assert np.array_equal(recording_store.aggregates()[ROUNDS]["w"], result.arrays["w"].numpy())
    assert not np.array_equal(inner.aggregates()[ROUNDS]["w"], result.arrays["w"].numpy())
