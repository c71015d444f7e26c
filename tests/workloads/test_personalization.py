"""Clusters and their models, against scikit-learn's k-means and NumPy's means."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from flstore.errors import InvalidParameterError, InvalidUpdateError
from flstore.workloads import Scope, make
from tests.workloads import linear

pytest.importorskip("torch")
GROUPS = "aababbab"


def ingest(job, groups=GROUPS):
    """Clients near the truth (a), and clients near its opposite (b); some better than others."""
    made = {}
    for i, group in enumerate(groups):
        own = linear.update(i, 0.2 * (i + 1))
        sign = 1 if group == "a" else -1
        made[f"c{i}"] = {n: t if n == "steps" else sign * t for n, t in own.items()}
    job.add(0, {}, aggregate=linear.tensors(np.zeros((8, 4))))
    job.add(1, made)
    return made


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
@pytest.mark.parametrize("k", [1, 2, None])
def test_models_are_means_of_the_best_of_each_cluster(job, metric, k):
    made = list(ingest(job).values())
    result = job.ask(make("personalization", clusters=2, k=k, metric=metric, **linear.TASK), round=1)
    rows = np.array([linear.vector(arrays) for arrays in made])
    expected = KMeans(2, n_init=10, random_state=0).fit(rows).labels_
    assert len(set(zip(expected.tolist(), result.clusters.tolist(), strict=True))) == 2

    def score(arrays):
        if metric == "accuracy":
            return linear.accuracy(arrays)
        z, y = linear.outputs(arrays), linear.data()[1]
        return -float(np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(z, y, strict=True)]))

    before = np.array([score(arrays) for arrays in made])
    np.testing.assert_allclose(result.before, before, rtol=1e-5)
    for cluster in (0, 1):
        members = [i for i in range(len(made)) if result.clusters[i] == cluster]
        best = sorted(members, key=lambda i: -before[i])[: k or 5]
        sizes = np.array([before[i] if metric == "accuracy" else np.exp(before[i]) for i in best])
        shares = sizes / sizes.sum()
        np.testing.assert_allclose(result.weights[best], shares, rtol=1e-4)
        assert result.weights[[i for i in members if i not in best]].tolist() == [0.0] * (len(members) - len(best))
        after = score(linear.mean([made[i] for i in best], shares.tolist()))
        np.testing.assert_allclose(result.after[members], after, rtol=1e-4)
    assert (result.metric, result.of, result.nonfinite) == (metric, "delta", [])


def test_clients_of_a_good_cluster_gain(job):
    ingest(job)
    result = job.ask(make("personalization", **linear.TASK), round=1)
    good = np.array([group == "a" for group in GROUPS])
    assert result.after[good].min() > np.median(result.before[good]) > 0.5
    assert result.after[~good].max() < 0.4
    assert (result.frame()["gain"] == result.frame()["after"] - result.frame()["before"]).all()


def test_shares_of_clients_that_are_all_wrong(job):
    job.add(1, {c: linear.tensors(-1e3 * linear.truth()) for c in "ab"})
    result = job.ask(make("personalization", clusters=1, of="model", **linear.TASK), round=1)
    assert result.before.tolist() == [0.0, 0.0]
    assert result.weights.tolist() == [0.5, 0.5]
    assert result.of == "model"


def test_nonfinite_clients_are_named_and_in_no_cluster(job):
    ingest(job)
    clean = job.ask(make("personalization", **linear.TASK), round=1)
    job.add(1, {"zz": linear.tensors(np.full((8, 4), np.nan))})
    result = job.ask(make("personalization", **linear.TASK), round=1)
    assert result.nonfinite == ["zz"]
    assert (result.clusters[-1], result.weights[-1]) == (-1, 0.0)
    assert np.isnan([result.before[-1], result.after[-1]]).all()
    np.testing.assert_array_equal(result.before[:-1], clean.before)
    job.add(2, {"a": linear.update(0, 1.0), "b": linear.tensors(np.full((8, 4), np.nan))})
    with pytest.raises(InvalidParameterError, match="k=2, but the round has 1 clients with finite updates"):
        job.ask(make("personalization", clusters=2, **linear.TASK), round=2)


def test_one_client_is_its_own_cluster(job):
    job.add(1, {"a": linear.update(0, 1.0)})
    result = job.ask(make("personalization", clusters=1, **linear.TASK), round=1)
    assert result.after.tolist() == result.before.tolist() == [linear.accuracy(linear.update(0, 1.0))]
    for params, message in (
        ({}, "clusters=2, but the round has 1"),
        ({"clusters": 1, "k": 2}, "k=2, but the round has 1"),
    ):
        with pytest.raises(InvalidParameterError, match=message):
            make("personalization", **params, **linear.TASK).needs(Scope("job", round=1), job)


def test_different_architectures_are_named(job):
    job.add(1, {"a": linear.update(0, 1.0), "b": {**linear.update(1, 1.0), "dense.bias": np.zeros(5, "f4")}})
    with pytest.raises(InvalidUpdateError, match=r"client 'b'.*'dense.bias'"):
        job.ask(make("personalization", **linear.TASK), round=1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"clusters": 0}, "clusters=0.*at least 1"),
        ({"k": 0}, "k=0.*at least 1"),
        ({"k": 1.5}, "k is an integer"),
        ({"of": "weights"}, "of='weights'"),
        ({"seed": -1}, "seed=-1"),
        ({"metric": "f1"}, "metric='f1' is unknown"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        make("personalization", **linear.TASK, **params)


def test_plot(job):
    ingest(job)
    axes = job.ask(make("personalization", **linear.TASK), round=1).plot()
    assert len(axes.collections[0].get_offsets()) == len(GROUPS)
