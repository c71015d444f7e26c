"""Secure aggregation: Flower's own SecAgg+ on a grid in this process, and replies without arrays."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp.strategy import FedAvg as MessageFedAvg

from flstore.federated import LocalGrid, identify, observe
from flstore.observed import HIDDEN
from tests.federated import test_flower

CLIENTS = 3
NOTICE = "Round 1: no reply holds a model of the client's own, as under secure aggregation"


class Client(NumPyClient):
    def __init__(self, number: int) -> None:
        self.number = number

    def fit(self, parameters: Any, config: Any) -> Any:
        return [a + self.number for a in parameters], 1, identify({"loss": 0.5}, f"c{self.number}")

    def evaluate(self, parameters: Any, config: Any) -> Any:
        return 0.25, 1, identify({}, f"c{self.number}")


def secure_training(strategy: Any, rounds: int = 2) -> Any:
    """Run SecAgg+; returns the global model."""
    app = ClientApp(lambda context: Client(int(context.node_config["partition-id"])).to_client(), mods=[secaggplus_mod])
    with LocalGrid(app, CLIENTS) as grid:
        bare = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})
        context = LegacyContext(bare, ServerConfig(num_rounds=rounds), strategy)
        DefaultWorkflow(fit_workflow=SecAggPlusWorkflow(3, 2))(grid, context)
        return context.state.array_records["parameters"].to_numpy_ndarrays()


def fedavg() -> FedAvg:
    start = ndarrays_to_parameters([np.zeros((2, 2), np.float32)])
    nodes = {"min_fit_clients": CLIENTS, "min_evaluate_clients": CLIENTS, "min_available_clients": CLIENTS}
    return FedAvg(**nodes, initial_parameters=start)


def test_of_secagg_plus_only_the_aggregate_is_kept(recording_store):
    with pytest.warns(RuntimeWarning, match=NOTICE) as seen:
        final = secure_training(observe(recording_store, fedavg()))
    assert sum(NOTICE in str(w.message) for w in seen) == len([w for w in seen if "secure" in str(w.message)]) == 1
    recording_store.flush()
    kept = recording_store.aggregates()
    assert sorted(kept) == [0, 1, 2]
    assert np.array_equal(kept[2]["0000"], final[0])
    np.testing.assert_allclose(kept[2]["0000"], 2.0, atol=1e-2)  # the mean of 0, 1 and 2, twice; quantised
    for r in (1, 2):
        assert recording_store.updates(r) == {}
        rows = recording_store.metadata(r)
        assert sorted(rows) == ["c0", "c1", "c2"]
        assert all(row[HIDDEN] is True and row["loss"] == 0.5 and row["eval_loss"] == 0.25 for row in rows.values())


def test_replies_without_arrays_are_taken_for_it(recording_store):
    class Summed(MessageFedAvg):
        """As a workflow of one's own that sums outside of the messages."""

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            summed = {k: Array(np.asarray(v + server_round)) for k, v in test_flower.INITIAL.items()}
            return ArrayRecord(summed), MetricRecord({"n": len(list(replies))})

    app = test_flower.client_app(lambda c, r, content: content.pop("arrays") if r == 2 else None)
    with pytest.warns(RuntimeWarning, match="Round 2: no reply holds a model of the client's own"):
        test_flower.train(observe(recording_store, test_flower.everyone(Summed)), app)
    recording_store.flush()
    assert [len(recording_store.updates(r)) for r in (1, 2, 3)] == [6, 0, 6]
    assert [all(HIDDEN in row for row in recording_store.metadata(r).values()) for r in (1, 2, 3)] == [
        False, True, False,
    ]  # fmt: skip
    assert sorted(recording_store.aggregates()) == [0, 1, 2, 3]
