"""Shapley values against the definition: every order of the clients, one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from flstore.errors import InvalidParameterError, InvalidUpdateError
from flstore.workloads import Scope, make
from flstore.workloads._shapley import exact, sampled
from tests.workloads import linear

pytest.importorskip("torch")
ACCURACY = {"utility": "accuracy", **linear.TASK}


def by_definition(players, worth):
    """Mean of what each player adds, over all orders."""
    total, orders = np.zeros(players), list(itertools.permutations(range(players)))
    for order in orders:
        for at, player in enumerate(order):
            total[player] += worth(frozenset(order[: at + 1])) - worth(frozenset(order[:at]))
    return total / len(orders)


def game(players, seed):
    random = np.random.default_rng(seed)
    worths = random.normal(size=2**players)
    return worths, lambda coalition: float(worths[sum(1 << player for player in coalition)])


@pytest.mark.parametrize("players", [1, 2, 3, 5])
def test_exact_values_are_those_of_the_definition(players):
    worths, worth = game(players, players)
    found = exact(worths)
    np.testing.assert_allclose(found.values, by_definition(players, worth), atol=1e-12)
    assert found.values.sum() == pytest.approx(worths[-1] - worths[0])
    assert (found.standard_errors.tolist(), found.permutations) == ([0.0] * players, 0)


def test_estimates_are_within_their_standard_errors_and_repeat():
    _, worth = game(6, 1)
    true = by_definition(6, worth)
    found = sampled(6, worth, 400, 0.0, seed=4)
    assert (np.abs(found.values - true) < 4 * found.standard_errors).all()
    wider = [sampled(6, worth, 100, 0.0, seed).standard_errors.mean() for seed in range(5)]
    assert np.mean(wider) == pytest.approx(2 * found.standard_errors.mean(), rel=0.15)  # 1 / sqrt(orders)
    assert sampled(6, worth, 400, 0.0, seed=4).values.tolist() == found.values.tolist()
    assert sampled(6, worth, 400, 0.0, seed=5).values.tolist() != found.values.tolist()
    # Each estimate is off by its error in one standard error of two times out of three, or the error is no such thing.
    many = [sampled(6, worth, 60, 0.0, seed) for seed in range(40)]
    inside = np.mean([np.abs(s.values - true) < s.standard_errors for s in many])
    assert 0.58 < inside < 0.78


def test_truncation_saves_coalitions_and_costs_no_more_than_the_tolerance():
    asked = set()

    def worth(coalition):  # the first members bring nearly all
        asked.add(coalition)
        return 1 - 0.3 ** len(coalition)

    whole = sampled(8, worth, 30, 0.0, 1)
    without = len(asked)
    asked.clear()
    cut = sampled(8, worth, 30, 0.05, 1)
    assert len(asked) < 0.6 * without
    assert np.abs(cut.values - whole.values).max() < 0.05


def ingest(job, moves, start=None):
    """A round of clients that move from `start`."""
    start = linear.update(99, 2.0) if start is None else start
    job.add(4, {}, aggregate=start)
    updates = {
        f"c{i}": {n: t if n == "steps" else start[n] + m[n] for n, t in start.items()} for i, m in enumerate(moves)
    }
    return job.add(5, updates)


def moves(random, count):
    common = random.normal(size=(8, 4))
    scales = random.uniform(0.2, 3, size=count)
    return [linear.tensors(s * (common + random.normal(size=(8, 4))), random.normal(size=4)) for s in scales]


def cosine(left, right):
    length = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / length) if length > 0 else 0.0


@pytest.mark.parametrize("of", ["delta", "model", None])
def test_cosine_gradient_from_the_vectors_themselves(job, random, of):
    ingest(job, moves(random, 5))
    start = job.ask(make("inference", **linear.TASK), round=4)
    assert start is not None
    rows = np.array([linear.vector(u) for u in job.updates(5)])
    if of != "model":
        rows = rows - linear.vector(job.data[next(k for k in job.data if k.client is None)])
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    everyone = units.sum(0)
    result = job.ask(make("contribution", of=of), round=5)
    expected = by_definition(5, lambda s: cosine(units[list(s)].sum(0), everyone))
    np.testing.assert_allclose(result.values, expected, atol=1e-5)
    np.testing.assert_allclose(result.cosine, [cosine(u, everyone) for u in units], atol=1e-5)
    assert result.total == pytest.approx(1.0)
    assert result.values.sum() == pytest.approx(1.0, abs=1e-5)
    assert (result.of, result.permutations, result.metric) == (of or "delta", 0, "")


def test_cosine_gradient_of_many_clients_is_estimated(job, random):
    ingest(job, moves(random, 20))
    result = job.ask(make("contribution", permutations=200), round=5)
    assert result.permutations == 200
    assert result.values.sum() == pytest.approx(1.0, abs=1e-5)
    rows = np.array([linear.vector(u) for u in job.updates(5)])
    rows -= linear.vector(job.data[next(k for k in job.data if k.client is None)])
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    draws, gains = np.random.default_rng(77), np.zeros(20)
    for _ in range(3000):
        sums = np.cumsum(units[order := draws.permutation(20)], axis=0)
        worths = sums @ units.sum(0) / np.linalg.norm(sums, axis=1) / np.linalg.norm(units.sum(0))
        gains[order] += np.diff(worths, prepend=0.0) / 3000
    assert (np.abs(result.values - gains) < 4.5 * result.standard_errors + 1e-3).all()


def test_clients_that_cancel_out_or_did_not_move_add_nothing(job):
    up = linear.tensors(np.ones((8, 4)))
    down = linear.tensors(-np.ones((8, 4)))
    still = linear.tensors(np.zeros((8, 4)))
    ingest(job, [up, down, still])
    assert job.ask(make("contribution"), round=5).values.tolist() == [0.0, 0.0, 0.0]
    ingest(job, [up, up, still])
    np.testing.assert_allclose(job.ask(make("contribution"), round=5).values, [0.5, 0.5, 0.0], atol=1e-6)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_accuracy_of_all_coalitions(job, metric):
    noises = [0.3, 0.8, 1.5, 4.0]
    made = [linear.update(i, noise) for i, noise in enumerate(noises)]
    start = linear.update(50, 3.0)
    job.add(1, {}, aggregate=start)
    job.add(2, {f"c{i}": arrays for i, arrays in enumerate(made)})

    def score(arrays):
        if metric == "accuracy":
            return linear.accuracy(arrays)
        z, y = linear.outputs(arrays), linear.data()[1]
        return -float(np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(z, y, strict=True)]))

    def worth(coalition):
        return score(linear.mean([made[i] for i in coalition])) if coalition else score(start)

    result = job.ask(make("contribution", metric=metric, **ACCURACY), round=2)
    np.testing.assert_allclose(result.values, by_definition(4, worth), atol=1e-4)
    assert result.total == pytest.approx(worth(frozenset(range(4))) - worth(frozenset()), abs=1e-4)
    assert (result.utility, result.metric, result.of, result.cosine.size) == ("accuracy", metric, "model", 0)
    many = job.ask(
        make("contribution", metric=metric, exact_up_to=3, permutations=300, tolerance=0.0, **ACCURACY), round=2
    )
    assert (np.abs(many.values - result.values) <= 4 * many.standard_errors + 1e-6).all()
    assert many.permutations == 300
    assert many.standard_errors.max() > 0


def test_nobody_is_worth_nothing_where_no_aggregate_is_stored(job):
    job.add(2, {"a": linear.update(1, 0.5)})
    result = job.ask(make("contribution", **ACCURACY), round=2)
    assert result.values.tolist() == [linear.accuracy(linear.update(1, 0.5))]


@pytest.mark.parametrize("params", [{}, ACCURACY])
def test_nonfinite_clients_are_named_and_in_no_coalition(job, random, params):
    ingest(job, moves(random, 3))
    clean = job.ask(make("contribution", **params), round=5)
    broken = {name: np.array(t) for name, t in job.updates(5)[0].items()}
    broken["dense.bias"][2] = np.inf
    job.add(5, {"zz": broken})
    result = job.ask(make("contribution", **params), round=5)
    assert result.nonfinite == ["zz"]
    assert np.isnan(result.values[3])
    np.testing.assert_allclose(result.values[:3], clean.values, atol=1e-6)


@pytest.mark.parametrize("params", [{}, ACCURACY])
def test_a_round_of_nonfinite_clients_only(job, params):
    job.add(5, {"a": linear.tensors(np.full((8, 4), np.nan))})
    result = job.ask(make("contribution", **params), round=5)
    assert (result.nonfinite, result.total, np.isnan(result.values).tolist()) == (["a"], 0.0, [True])


@pytest.mark.parametrize("params", [{}, ACCURACY])
def test_one_client_gets_all(job, random, params):
    ingest(job, moves(random, 1))
    result = job.ask(make("contribution", **params), round=5)
    assert result.values[0] == pytest.approx(result.total, abs=1e-6)


@pytest.mark.parametrize("params", [{}, ACCURACY])
def test_different_architectures_are_named(job, params):
    job.add(1, {"a": linear.update(0, 1.0), "b": {**linear.update(1, 1.0), "dense.bias": np.zeros(5, "f4")}})
    with pytest.raises((InvalidUpdateError, InvalidParameterError), match=r"client 'b'.*dense.bias"):
        job.ask(make("contribution", **params), round=1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"utility": "profit"}, "utility='profit' is unknown.*'cosine_gradient', 'accuracy'"),
        ({"utility": "accuracy"}, r"contribution needs 'model', 'data'.*store.task\(model="),
        ({"utility": "accuracy", **linear.TASK, "metric": "f1"}, "metric='f1' is unknown"),
        ({"exact_up_to": 17}, "exact_up_to=17.*between 0 and 16"),
        ({"permutations": 1}, "permutations=1.*at least 2"),
        ({"tolerance": -0.1}, "tolerance is a finite number of at least 0"),
        ({"seed": -1}, "seed=-1"),
        ({"of": "weights"}, "of='weights'"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        make("contribution", **params)


def test_only_inner_products_are_enough_in_ranges():
    assert make("contribution").in_ranges
    assert not make("contribution", **ACCURACY).in_ranges
    assert len(make("contribution", of="model").name) > 0
    with pytest.raises(InvalidParameterError, match="one round"):
        make("contribution").needs(Scope("job"), None)


def test_frame_and_plot(job, random):
    ingest(job, moves(random, 3))
    result = job.ask(make("contribution"), round=5)
    table = result.frame()
    assert table["value"].is_monotonic_decreasing
    assert list(table.columns) == ["value", "standard_error", "cosine"]
    assert len(result.plot().patches) == 3
    assert "Shapley" not in result._repr_html_()
    assert "cosine_gradient" in result._repr_html_()
