"""Every strategy of the older interface: bit for bit the same, observed or not."""

import inspect
from typing import Any

import flwr.server.strategy as shipped
import numpy as np
import pytest
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.strategy import FedAvg, Strategy

from flstore.federated import observe
from flstore.federated.identity import CLIENT_METRIC
from tests.federated.test_flower_legacy import Proxy, clients
from tests.federated.test_flower_strategies import TREES, attributes

CLIENTS, ROUNDS = 3, 3
OPTIONS: dict[str, dict[str, Any]] = {
    "Bulyan": {"to_keep": 0},
    "FedProx": {"proximal_mu": 0.1},
    "QFedAvg": {"evaluate_fn": lambda round, parameters, config: (0.5, {})},
}
BUILT_IN = {
    name: cls
    for name in shipped.__all__
    if inspect.isclass(cls := getattr(shipped, name)) and issubclass(cls, Strategy) and cls is not Strategy
}
INITIAL = [np.ones((2, 2), np.float32), np.zeros(3, np.float32)]
NODES = {"min_fit_clients": CLIENTS, "min_evaluate_clients": CLIENTS, "min_available_clients": CLIENTS}


def make(name: str) -> Any:
    cls = BUILT_IN[name]
    if name.startswith(("DifferentialPrivacy", "DPFedAvg")):
        options: dict[str, Any] = {"noise_multiplier": 0.1, "num_sampled_clients": CLIENTS}
        options |= {"clip_norm": 0.5} if name == "DPFedAvgFixed" else {}
        options |= {"clipping_norm": 0.5} if "FixedClipping" in name else {}
        return cls(FedAvg(**NODES), **options)
    start = ndarrays_to_parameters(INITIAL)
    wanted = {"initial_parameters": start} if issubclass(cls, shipped.FedOpt | shipped.FedAvgM) else {}
    return cls(**NODES, **wanted, **OPTIONS.get(name, {}))


def model(name: str, client: int, round: int) -> Any:
    rng = np.random.default_rng([client, round])
    own = [a + rng.normal(size=a.shape).astype(a.dtype) for a in INITIAL]
    if name in ("FedXgbBagging", "FedXgbCyclic"):
        return Parameters([(TREES % client).encode()], "")
    if name == "FedAvgAndroid":
        return Parameters([a.tobytes() for a in own], "numpy.nda")
    if name == "FedXgbNnAvg":
        return [FitRes(Status(Code.OK, ""), ndarrays_to_parameters(own), 1, {}), f"trees of {client}"]
    return ndarrays_to_parameters(own)


def train(name: str, strategy: Any) -> list[tuple[Any, ...]]:
    """What each round returned, as text and bytes."""
    np.random.seed(0)
    manager, parameters = clients(), ndarrays_to_parameters(INITIAL)
    found = []
    for r in range(1, ROUNDS + 1):
        sent = sorted(strategy.configure_fit(r, parameters, manager), key=lambda s: s[0].cid)
        bits = {"norm_bit": True, "dpfedavg_norm_bit": True}
        results = [
            (p, FitRes(Status(Code.OK, ""), model(name, int(p.cid), r), 10, {CLIENT_METRIC: f"c{p.cid}", **bits}))
            for p, _ in sent
        ]
        aggregated, metrics = strategy.aggregate_fit(r, results, [])
        asked = strategy.configure_evaluate(r, parameters, manager)
        evaluated = [(p, EvaluateRes(Status(Code.OK, ""), 0.5 * int(p.cid), 4, {})) for p, _ in asked]
        evaluated.sort(key=lambda e: e[0].cid)
        found.append((repr(aggregated), metrics, strategy.aggregate_evaluate(r, evaluated, [])))
        parameters = aggregated if isinstance(aggregated, Parameters) and name != "FedAvgAndroid" else parameters
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Not all of round")
@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {"FedXgbCyclic"}))
def test_training_is_the_same_bit_for_bit(name: str, recording_store):
    alone = make(name)
    bare = train(name, alone)
    strategy = make(name)
    assert observe(recording_store, observe(recording_store, strategy)) is strategy
    assert type(strategy) is BUILT_IN[name]
    assert train(name, strategy) == bare
    assert attributes(strategy) == attributes(alone)
    if name == "FedXgbNnAvg":  # pairs of a network and trees are no Parameters
        with pytest.raises(Exception, match="a list is no Flower Parameters"):
            recording_store.flush()
        assert len(recording_store.feeders[0].lost) == ROUNDS * (CLIENTS + 1)
        assert sorted(recording_store.metadata(1)) == ["c1", "c2", "c3"]
        return
    recording_store.flush()
    for r in range(1, ROUNDS + 1):
        updates = recording_store.updates(r)
        assert sorted(updates) == sorted(recording_store.metadata(r)) == ["c1", "c2", "c3"]
        expected = model(name, 2, r)
        stored = updates["c2"].values()
        if expected.tensor_type == "numpy.ndarray":
            pairs = zip(stored, parameters_to_ndarrays(expected), strict=True)
            assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)
        else:
            assert [a.tobytes() for a in stored] == expected.tensors
    assert sorted(recording_store.aggregates()) == list(range(ROUNDS + 1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_one_client_at_a_time(recording_store):
    """FedXgbCyclic draws its one client at random, so its order is fixed for the comparison."""

    class Proxies(type(clients())):
        def sample(self, num_clients: int, min_num_clients: int | None = None, criterion: Any = None) -> list[Proxy]:
            return sorted(self.clients.values(), key=lambda p: p.cid)

    def run(strategy: Any) -> list[tuple[Any, ...]]:
        manager = Proxies()
        for cid in ("1", "2", "3"):
            manager.register(Proxy(cid))
        found, parameters = [], ndarrays_to_parameters(INITIAL)
        for r in (1, 2):
            ((proxy, _),) = strategy.configure_fit(r, parameters, manager)
            answer = FitRes(Status(Code.OK, ""), model("FedXgbCyclic", int(proxy.cid), r), 1, {})
            found.append(strategy.aggregate_fit(r, [(proxy, answer)], []))
        return found

    assert run(observe(recording_store, make("FedXgbCyclic"))) == run(make("FedXgbCyclic"))
    recording_store.flush()
    assert [sorted(recording_store.updates(r)) for r in (1, 2)] == [["1"], ["2"]]
