"""Differential testing against intersections of sets written out, and planted faults on trained networks."""

import numpy as np
import pytest
import torch

from flstore.errors import InvalidParameterError
from flstore.testing.sample_job import SampleJob
from flstore.testing.workloads import check_workload
from flstore.workloads import Scope, make
from flstore.workloads._activations import activations, common
from flstore.workloads.debugging import Debugging, blames
from tests.workloads import tiny

MODEL, DATA = "tests.workloads.tiny:build", "tests.workloads.tiny:data"
CLIENTS = [f"{i:02}" for i in range(8)]


@pytest.fixture(scope="module")
def honest():
    start = tiny.trained(10)
    return {client: tiny.trained(3, start, seed=i) for i, client in enumerate(CLIENTS)}


def noisy(state, seed=0, scale=1.0):
    random = np.random.default_rng(seed)
    return {
        name: array + (scale * array.std() * random.normal(size=array.shape)).astype(array.dtype)
        if array.ndim > 1
        else array
        for name, array in state.items()
    }


# --- the counting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("clients", [2, 3, 7, 300])
def test_counts_equal_intersections_of_sets(seed, clients):
    random = np.random.default_rng(seed)
    bits = random.random((clients, 4, 50)) < 1 - 1 / clients
    expected = np.empty((clients, 4))
    for row in range(4):
        active = [set(np.flatnonzero(client[row])) for client in bits]
        for out in range(clients):
            expected[out, row] = len(set.intersection(*(s for i, s in enumerate(active) if i != out)))
    everybody, more = common(np.packbits(bits, axis=2), 50)
    np.testing.assert_array_equal(everybody + more, expected)


def test_each_input_blames_one_client_or_nobody():
    more = np.array([[5, 1, 3, 60], [4, 1, 7, 1], [3, 0, 2, 2], [4, 1, 2, 3]])
    assert blames(more, 0).tolist() == [2, 1, 0, 0]
    assert blames(more, 3.5).tolist() == [1, 1, 0, 0]


def test_neurons_are_the_outputs_of_layers_with_weights():
    model = tiny.build().eval()
    x = torch.from_numpy(tiny.data()[0][:6])
    with torch.no_grad():
        bits, finite = activations(model, x, 0.1)
        convolved = model.conv(x)
        normed = model.norm(convolved)
        hidden = model.hidden(torch.relu(normed).flatten(1))
        expected = [convolved, normed, hidden, model.head(torch.tanh(hidden))]
    np.testing.assert_array_equal(bits, np.concatenate([t.flatten(1).numpy() > 0.1 for t in expected], axis=1))
    assert finite
    assert activations(model, x, 0.1, layers=2)[0].shape == (6, 2 * 5 * 16)
    assert not any(module._forward_hooks for module in model.modules())


# --- the workload ---------------------------------------------------------------------------------------------------


def found_by_hand(states, x):
    """FedDebug for one faulty client, with PyTorch alone: how many inputs blame each."""
    active = {}
    for client, state in states.items():
        model = tiny.build().eval()
        model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in state.items()})
        with torch.no_grad():
            convolved = model.conv(torch.from_numpy(x))
            normed = model.norm(convolved)
            hidden = model.hidden(torch.relu(normed).flatten(1))
            outputs = [convolved, normed, hidden, model.head(torch.tanh(hidden))]
        active[client] = np.concatenate([t.flatten(1).numpy() > 0 for t in outputs], axis=1)
    votes = dict.fromkeys(states, 0)
    for row in range(len(x)):
        common = {out: np.logical_and.reduce([a[row] for c, a in active.items() if c != out]).sum() for out in states}
        best = [client for client, count in common.items() if count == max(common.values())]
        if len(best) == 1:
            votes[best[0]] += 1
    return votes


def test_votes_equal_those_counted_by_hand(job, honest):
    job.add(1, honest)
    result = job.ask(make("debugging", model=MODEL, shape=tiny.SHAPE, inputs=20, seed=3, outlier=0), round=1)
    x = np.random.default_rng(3).standard_normal((20, *tiny.SHAPE), dtype=np.float32)
    assert dict(zip(result.clients, result.votes.tolist(), strict=True)) == found_by_hand(honest, x)
    assert (result.inputs, result.neurons) == (20, 2 * 5 * 16 + 24 + 4)


@pytest.mark.parametrize("about", [{"shape": tiny.SHAPE}, {"data": DATA}])
@pytest.mark.parametrize("bad", ["00", "05"])
def test_a_planted_fault_is_found_from_a_shape_and_from_data(job, honest, about, bad):
    job.add(1, {**honest, bad: noisy(honest[bad])})
    result = job.ask(make("debugging", model=MODEL, **about), round=1)
    assert result.faulty == [bad]
    assert result.votes[CLIENTS.index(bad)] > 5
    assert result.frame().index[0] == bad


def test_several_are_found_one_after_the_other(job, honest):
    job.add(1, {**honest, "02": noisy(honest["02"], 1, 2.0), "06": noisy(honest["06"], 2)})
    workload = make("debugging", model=MODEL, shape=tiny.SHAPE, inputs=30, faulty=2)
    assert sorted(job.ask(workload, round=1).faulty) == ["02", "06"]


def test_clients_that_are_not_finite_are_named_and_count_among_the_faulty(job, honest):
    bad = {**honest["03"], "head.bias": np.full(4, np.nan, np.float32)}
    job.add(1, {**honest, "03": bad, "07": noisy(honest["07"])})
    for about in ({"shape": tiny.SHAPE}, {"data": DATA}):
        one = job.ask(make("debugging", model=MODEL, **about), round=1)
        assert (one.faulty, one.nonfinite) == (["03"], ["03"])
        two = job.ask(make("debugging", model=MODEL, faulty=2, **about), round=1)
        assert (two.faulty, two.nonfinite) == (["03", "07"], ["03"])
        assert np.isnan(two.agreement[3])


def test_equal_models_and_tiny_rounds_blame_nobody(job, honest):
    job.add(1, dict.fromkeys("abcd", honest["00"]))
    job.add(2, {"a": honest["00"], "b": noisy(honest["00"])})
    job.add(3, {"a": honest["00"]})
    for round in (1, 2, 3):
        result = job.ask(make("debugging", model=MODEL, shape=tiny.SHAPE), round=round)
        assert (result.faulty, result.votes.sum()) == ([], 0)


def test_inputs_repeat_with_their_seed(job, honest):
    job.add(1, honest)
    ask = [
        job.ask(make("debugging", model=MODEL, shape=tiny.SHAPE, seed=seed), round=1).agreement for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(ask[0], ask[1])
    assert (ask[0] != ask[2]).any()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "needs 'model', 'data'"),
        ({"shape": (2, 6, 6)}, "needs 'model'"),
        ({"model": MODEL}, "needs 'data'"),
        ({"model": "nothing", "shape": (2, 6, 6)}, "model is an import path"),
        ({"model": MODEL, "shape": "263"}, "shape is that of one input"),
        ({"model": MODEL, "shape": (0, 6)}, "shape is that of one input"),
        ({"model": MODEL, "data": DATA, "inputs": 0}, "inputs=0 is out of range"),
        ({"model": MODEL, "data": DATA, "faulty": 0}, "faulty=0 is out of range"),
        ({"model": MODEL, "data": DATA, "threshold": "high"}, "threshold is a finite number"),
        ({"model": MODEL, "data": DATA, "outlier": -1}, "outlier=-1 is out of range"),
        ({"model": MODEL, "data": DATA, "layers": 0}, "layers=0 is out of range"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        make("debugging", **params)


def test_what_does_not_fit_is_an_error_that_says_what(job, honest):
    job.add(1, honest).add(2, {**honest, "odd": {"w": np.ones(3)}})
    with pytest.raises(InvalidParameterError, match="faulty=9, but the round has 8 clients"):
        make("debugging", model=MODEL, shape=tiny.SHAPE, faulty=9).needs(Scope("job", round=1), job)
    with pytest.raises(InvalidParameterError, match=r"cannot take inputs of shape \[10, 7\]"):
        job.ask(make("debugging", model=MODEL, shape=(7,)), round=1)
    with pytest.raises(InvalidParameterError, match="returned a str, not a torch model"):
        job.ask(make("debugging", model="tests.workloads.tiny:not_a_model", shape=(7,)), round=1)
    for about in ({"shape": tiny.SHAPE}, {"data": DATA}):
        with pytest.raises(InvalidParameterError, match=r"does not fit: tensor 'conv\.bias'"):
            job.ask(make("debugging", model=MODEL, **about), round=2)


def test_contract(honest):
    sample = SampleJob("sample")
    sample.add(1, honest)
    for about in ({"shape": tiny.SHAPE}, {"data": DATA}):
        check_workload(lambda about=about: Debugging(model=MODEL, **about), scopes=[{"round": 1}], job=sample)


def test_plot_and_html(job, honest):
    job.add(1, {**honest, "01": noisy(honest["01"])})
    result = job.ask(make("debugging", model=MODEL, shape=tiny.SHAPE), round=1)
    assert len(result.plot().patches) >= len(CLIENTS)
    assert "agreement_without" in result._repr_html_()
