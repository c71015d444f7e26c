"""Tokens: in proportion to scores above the mean, and never one too many."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flstore.errors import InvalidParameterError
from flstore.workloads import Scope, make
from flstore.workloads.incentives import share_out
from tests.workloads import linear

pytest.importorskip("torch")
NOISES = {"a": 0.2, "b": 0.8, "c": 2.0, "d": 6.0}


def ingest(job):
    return job.add(1, {c: linear.update(i, noise) for i, (c, noise) in enumerate(NOISES.items())})


def test_tokens_follow_accuracy_above_the_mean(job):
    ingest(job)
    result = job.ask(make("incentives", budget=500, **linear.TASK), round=1)
    scores = np.array([linear.accuracy(linear.update(i, noise)) for i, noise in enumerate(NOISES.values())])
    np.testing.assert_array_equal(result.scores, scores)
    assert result.mean == pytest.approx(scores.mean())
    above = np.maximum(0, scores - scores.mean())
    exact = 500 * above / above.sum()
    assert np.abs(result.tokens - exact).max() < 1
    assert result.tokens.sum() == result.budget == 500
    assert result.tokens.tolist() == sorted(result.tokens, reverse=True)
    assert ((result.tokens == 0) == (scores <= scores.mean())).all()
    assert (result.clients, result.metric, result.nonfinite) == (["a", "b", "c", "d"], "accuracy", [])


def test_by_loss_or_a_metric_of_ones_own(job):
    ingest(job)
    by_loss = job.ask(make("incentives", metric="loss", **linear.TASK), round=1)
    assert (by_loss.scores < 0).all()
    assert by_loss.tokens.sum() == 1000
    own = job.ask(make("incentives", metric="tests.workloads.nets:half_right", **linear.TASK), round=1)
    assert own.metric == "tests.workloads.nets:half_right"
    assert own.tokens.sum() == 1000


@given(
    st.integers(0, 10**9),
    st.lists(st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 0.1, 1 / 3, 0.30000000000000004])), min_size=1),
)
def test_the_budget_is_conserved_exactly(budget, scores):
    shares = share_out(budget, scores)
    assert sum(shares) == budget
    assert min(shares) >= 0
    # Who is better never gets less, but for the single token that a remainder decides.
    assert all(
        a >= b - 1
        for (s, a) in zip(scores, shares, strict=True)
        for (t, b) in zip(scores, shares, strict=True)
        if s >= t
    )


def test_equal_clients_share_alike(job):
    job.add(1, {c: linear.update(0, 1.0) for c in "abc"})
    assert job.ask(make("incentives", budget=8, **linear.TASK), round=1).tokens.tolist() == [3, 3, 2]
    assert share_out(5, []) == []


def test_one_client_gets_the_budget(job):
    job.add(1, {"a": linear.update(0, 1.0)})
    assert job.ask(make("incentives", **linear.TASK), round=1).tokens.tolist() == [1000]


def test_nonfinite_clients_are_named_and_get_nothing(job):
    ingest(job)
    clean = job.ask(make("incentives", **linear.TASK), round=1)
    job.add(1, {"0": linear.tensors(np.full((8, 4), np.nan)), "x": linear.tensors(linear.truth(), np.full(4, np.inf))})
    result = job.ask(make("incentives", **linear.TASK), round=1)
    assert result.nonfinite == ["0", "x"]
    assert np.isnan(result.scores[[0, -1]]).all()
    assert result.tokens.tolist() == [0, *clean.tokens.tolist(), 0]
    job.add(2, {"a": linear.tensors(np.full((8, 4), np.nan))})
    nobody = job.ask(make("incentives", **linear.TASK), round=2)
    assert (nobody.nonfinite, nobody.tokens.tolist()) == (["a"], [0])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({**linear.TASK, "budget": -1}, "budget=-1.*at least 0"),
        ({**linear.TASK, "budget": 1.5}, "budget is an integer"),
        ({**linear.TASK, "metric": "f1"}, "metric='f1' is unknown"),
        (
            {**linear.TASK, "data": "held_out.csv"},
            r"data is an import path.*\.npz or \.safetensors, not 'held_out.csv'",
        ),
        ({**linear.TASK, "model": "build"}, "model is an import path"),
        ({}, r"incentives needs 'model', 'data'.*store.task\(model="),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        make("incentives", **params)


def test_what_cannot_be_judged_is_named(job):
    job.add(1, {"a": linear.update(0, 1.0), "b": {**linear.update(1, 1.0), "more": np.ones(1, "f4")}})
    with pytest.raises(InvalidParameterError, match=r"client 'b' in round 1.*'more', which is not in it but is stored"):
        job.ask(make("incentives", **linear.TASK), round=1)
    with pytest.raises(InvalidParameterError, match="at least one example"):
        job.ask(make("incentives", **{**linear.TASK, "data": "tests.workloads.nets:empty"}), round=1)
    with pytest.raises(InvalidParameterError, match="one round"):
        make("incentives", **linear.TASK).needs(Scope("job"), job)


def test_frame_and_plot(job):
    result = ingest(job).ask(make("incentives", **linear.TASK), round=1)
    table = result.frame()
    assert table["tokens"].is_monotonic_decreasing
    assert table.loc["a", "above_mean"] == pytest.approx(result.scores[0] - result.mean)
    assert len(result.plot().patches) == 4
    assert "IncentivesResult" in result._repr_html_()
