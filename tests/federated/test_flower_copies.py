"""Copies of an observed strategy: strategies that nobody observes."""

import copy
import pickle
from typing import Any

import cloudpickle
import numpy as np
import pytest
from flwr.app import ArrayRecord
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.serverapp.strategy import FedAvg

from flstore.federated import observe
from tests.federated.test_flower import CLIENTS, clipped, everyone, train

COPIES = {
    "pickle": lambda s: pickle.loads(pickle.dumps(s)),
    "cloudpickle": lambda s: pickle.loads(cloudpickle.dumps(s)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("make", [everyone, lambda: clipped(everyone())], ids=["FedAvg", "DP"])
def test_a_copy_trains_alike_and_is_not_observed(way: str, make: Any, recording_store):
    strategy = observe(recording_store, make())
    if hasattr(strategy, "strategy"):
        observe(type(recording_store)(), strategy.strategy)
    made = COPIES[way](strategy)
    assert type(made) is type(strategy)
    result = train(made, rounds=1)
    recording_store.flush()
    assert recording_store.calls == []
    expected = train(make(), rounds=1)
    assert result.arrays["w"].data == expected.arrays["w"].data
    assert COPIES[way](made).min_available_nodes == CLIENTS if isinstance(made, FedAvg) else True
    train(observe(recording_store, made), rounds=1)  # a copy can be observed in its own right
    recording_store.flush()
    assert len(recording_store.updates(1)) == CLIENTS


def test_the_original_is_still_observed(recording_store):
    strategy = observe(recording_store, observe(type(recording_store)(), everyone()))
    copy.deepcopy(strategy)
    pickle.dumps(strategy)
    train(strategy, rounds=1)
    recording_store.flush()
    assert len(recording_store.updates(1)) == CLIENTS


def test_a_copy_has_its_own_state(recording_store):
    made = copy.deepcopy(observe(recording_store, everyone()))
    assert made.aggregate_train.__self__ is made
    assert made.aggregate_train(1, []) == (None, None)


def test_the_older_interface_too(recording_store):
    made = pickle.loads(pickle.dumps(observe(recording_store, LegacyFedAvg())))
    assert made.aggregate_fit(1, [], []) == (None, {})
    assert recording_store.feeders[0].pending_bytes == 0


def test_a_class_of_a_script_with_its_own_start(recording_store):
    class Own(FedAvg):
        """cloudpickle sends it by value, with its methods."""

        def start(self, grid: Any, initial_arrays: ArrayRecord, num_rounds: int = 3, **_: Any) -> Any:
            self.ran = num_rounds
            return super().start(grid, initial_arrays, num_rounds)

    strategy = observe(recording_store, everyone(Own))
    result = train(pickle.loads(cloudpickle.dumps(strategy)), rounds=1)
    observed = train(strategy, rounds=1)
    recording_store.flush()
    assert strategy.ran == 1
    assert np.array_equal(result.arrays["w"].numpy(), observed.arrays["w"].numpy())
    assert len(recording_store.updates(1)) == CLIENTS


def test_a_start_that_goes_around_the_strategy_is_told_of(recording_store):
    class Around(FedAvg):
        def start(self, *_: Any, **__: Any) -> Any:
            return "done"

    with pytest.warns(RuntimeWarning, match="Nothing was recorded: the strategy's start"):
        assert observe(recording_store, Around()).start() == "done"
