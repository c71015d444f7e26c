"""The interface of ``flwr.server.strategy``, which has parameters instead of messages."""

import numpy as np
import pytest
from flwr.app import Error
from flwr.common import Code, EvaluateRes, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.client_manager import SimpleClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg

from flstore.federated import identify, observe

INITIAL = [np.zeros((2, 2), np.float32), np.zeros(3)]


class Proxy(ClientProxy):
    """A client in this process."""

    def fit(self, ins, timeout=None, group_id=None):
        own = [a + int(self.cid) for a in parameters_to_ndarrays(ins.parameters)]
        metrics = {"loss": 0.25, "blob": b"x"}
        return FitRes(Status(Code.OK, ""), ndarrays_to_parameters(own), 10 * int(self.cid), metrics)

    def evaluate(self, ins, timeout=None, group_id=None):
        return EvaluateRes(Status(Code.OK, ""), 0.5, 4, {"accuracy": 0.75})

    def get_properties(self, ins, timeout, group_id):
        raise NotImplementedError

    def get_parameters(self, ins, timeout, group_id):
        raise NotImplementedError

    def reconnect(self, ins, timeout, group_id):
        raise NotImplementedError


def clients() -> SimpleClientManager:
    manager = SimpleClientManager()
    for cid in ("1", "2", "3"):
        manager.register(Proxy(cid))
    return manager


def train(strategy: FedAvg, rounds: int = 2) -> list[np.ndarray]:
    manager, parameters = clients(), ndarrays_to_parameters(INITIAL)
    for r in range(1, rounds + 1):
        sent = strategy.configure_fit(r, parameters, manager)
        bad = FitRes(Status(Code.FIT_NOT_IMPLEMENTED, "no GPU"), ndarrays_to_parameters([]), 0, {})
        results = [(proxy, proxy.fit(ins)) for proxy, ins in sorted(sent, key=lambda s: s[0].cid) if proxy.cid != "3"]
        failures = [(proxy, bad) for proxy, _ in sent if proxy.cid == "3"] + [RuntimeError("connection lost")]
        parameters, _ = strategy.aggregate_fit(r, results, failures)
        asked = strategy.configure_evaluate(r, parameters, manager)
        strategy.aggregate_evaluate(r, [(proxy, proxy.evaluate(ins)) for proxy, ins in asked], [])
    return parameters_to_ndarrays(parameters)


def fedavg() -> FedAvg:
    return FedAvg(
        min_fit_clients=3, min_available_clients=3, on_fit_config_fn=lambda r: {"lr": 0.1 / r, "key": b"secret"}
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_older_interface(recording_store):
    strategy = fedavg()
    assert observe(recording_store, observe(recording_store, strategy)) is strategy
    observed, bare = train(strategy), train(fedavg())
    recording_store.flush()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(observed, bare, strict=True))
    assert sorted(recording_store.updates(1)) == sorted(recording_store.updates(2)) == ["1", "2"]
    update = recording_store.updates(1)["2"]
    assert list(update) == ["0000", "0001"]
    assert np.array_equal(update["0000"], np.full((2, 2), 2))
    assert update["0000"].dtype == np.float32
    kept = recording_store.aggregates()
    assert sorted(kept) == [0, 1, 2]
    assert np.array_equal(kept[0]["0001"], INITIAL[1])
    assert np.array_equal(kept[2]["0000"], bare[0])
    evaluated = {"eval_loss": 0.5, "eval_num-examples": 4, "eval_accuracy": 0.75}
    rows = recording_store.metadata(2)
    durations = [rows[c].pop(name) for c in ("2", "3") for name in ("round_s", "eval_round_s") if name in rows[c]]
    assert len(durations) == 3
    assert min(durations) >= 0
    assert rows["2"].pop("reply_bytes") == len(ndarrays_to_parameters(INITIAL).tensors[0]) + 128 + 24
    assert rows["2"] == {"lr": 0.05, "loss": 0.25, "num-examples": 20, "node_id": "2", **evaluated}
    assert rows["3"] == {"lr": 0.05, "error": "no GPU", "node_id": "3", **evaluated}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_failures_without_a_name_are_told_of_those_who_are_missing(recording_store):
    """Flower gives failures of the connection as bare exceptions; whose they are is what is left."""
    strategy = observe(recording_store, fedavg())
    lost = [RuntimeError("connection lost"), Exception(Error(0, "ValueError: no data here"))]
    for r, failures in ((1, lost[1:]), (2, lost)):
        sent = sorted(strategy.configure_fit(r, ndarrays_to_parameters(INITIAL), clients()), key=lambda s: s[0].cid)
        strategy.aggregate_fit(r, [(proxy, proxy.fit(ins)) for proxy, ins in sent[len(failures) :]], failures)
    recording_store.flush()
    assert recording_store.metadata(1)["1"]["error"] == "ValueError: no data here"
    text = "no answer; failures of the round: RuntimeError: connection lost; ValueError: no data here"
    assert [recording_store.metadata(2)[c].get("error") for c in ("1", "2", "3")] == [text, text, None]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_metric_says_who_a_client_is(recording_store):
    strategy = observe(recording_store, fedavg())
    sent = strategy.configure_fit(1, ndarrays_to_parameters(INITIAL), clients())
    results = [(proxy, proxy.fit(ins)) for proxy, ins in sent]
    strategy.aggregate_fit(1, [(p, identify(a, f"hospital-{p.cid}")) for p, a in results], [])
    asked = strategy.configure_evaluate(1, ndarrays_to_parameters(INITIAL), clients())
    strategy.aggregate_evaluate(1, [(proxy, proxy.evaluate(ins)) for proxy, ins in asked], [])  # says nothing
    recording_store.flush()
    rows = recording_store.metadata(1)
    assert sorted(recording_store.updates(1)) == sorted(rows) == ["hospital-1", "hospital-2", "hospital-3"]
    assert rows["hospital-2"]["eval_loss"] == 0.5
    assert "flstore.client-id" not in rows["hospital-2"]
