"""Cosine similarity of a round: deltas or weights, and the clients that cannot be compared."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from flstore.errors import InvalidParameterError, UpdateNotFoundError
from flstore.types import Key, Kind
from flstore.workloads import Scope, make


def exact(rows):
    return 1 - cdist(rows, rows, "cosine")


def test_delta_and_model_differ_and_are_exact(job, random):
    base = random.normal(size=5000) * 10
    rows = {c: base + random.normal(size=5000) for c in ("10", "9", "x")}
    job.add(7, {c: {"w": row.astype(np.float32)} for c, row in rows.items()})
    job.add(6, {}, aggregate={"w": base.astype(np.float32)})
    weights = np.array([rows[c].astype(np.float32) for c in ("10", "9", "x")], np.float64)
    deltas = weights - base.astype(np.float32)
    automatic = job.ask(make("cosine_similarity"), round=7)
    assert (automatic.of, automatic.clients) == ("delta", ["10", "9", "x"])
    np.testing.assert_allclose(automatic.similarity, exact(deltas), atol=1e-5)
    np.testing.assert_allclose(automatic.norms, np.linalg.norm(deltas, axis=1), rtol=1e-5)
    assert np.abs(automatic.similarity - np.eye(3)).max() < 0.1
    model = job.ask(make("cosine_similarity", of="model"), round=7)
    assert model.of == "model"
    np.testing.assert_allclose(model.similarity, exact(weights), atol=1e-6)
    assert model.similarity.min() > 0.98


def test_without_an_aggregate_the_default_is_the_model_and_delta_is_an_error(job):
    job.add(4, {"a": {"w": np.ones(3, np.float32)}})
    alone = job.ask(make("cosine_similarity"), round=4)
    assert (alone.of, alone.similarity.tolist(), alone.nonfinite) == ("model", [[1.0]], [])
    with pytest.raises(UpdateNotFoundError, match=r"aggregate of round 3.*of='model'"):
        job.ask(make("cosine_similarity", of="delta"), round=4)


def test_needs_name_the_updates_and_the_aggregate_that_is_used(job):
    one = {"w": np.ones(3, np.float32)}
    job.add(4, {"b": one, "a": one}).add(3, {"z": one}, aggregate=one)
    updates = [Key("job", Kind.UPDATE, 4, "a"), Key("job", Kind.UPDATE, 4, "b")]
    scope = Scope("job", round=4)
    assert make("cosine_similarity").needs(scope, job) == [*updates, Key("job", Kind.AGGREGATE, 3)]
    assert make("cosine_similarity", of="model").needs(scope, job) == updates
    with pytest.raises(InvalidParameterError, match="round=3"):
        make("cosine_similarity").needs(Scope("job"), job)


def test_a_client_with_nan_is_named_and_the_others_stand(job, random):
    rows = {c: random.normal(size=40).astype(np.float32) for c in "abc"}
    rows["b"][3] = np.nan
    job.add(1, {c: {"w": row} for c, row in rows.items()})
    result = job.ask(make("cosine_similarity"), round=1)
    assert result.nonfinite == ["b"]
    assert np.isnan(result.similarity[1]).all()
    np.testing.assert_allclose(result.similarity[0, 2], exact([rows["a"], rows["c"]])[0, 1], atol=1e-6)


def test_frame_and_plot(job, random):
    job.add(1, {c: {"w": random.normal(size=9).astype(np.float32)} for c in "ab"})
    result = job.ask(make("cosine_similarity"), round=1)
    assert result.frame().loc["a", "b"] == result.similarity[0, 1]
    assert "model" in result.plot().get_title()
