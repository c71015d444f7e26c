"""One client's updates across rounds, against NumPy."""

import numpy as np
import pytest

from flstore.errors import InvalidParameterError, UpdateNotFoundError
from flstore.workloads import Scope, make


@pytest.fixture
def history(job, random):
    for round in (2, 5, 9, 14):
        layers = {
            "a": random.normal(size=(40, 7)).astype(np.float32),
            "b": random.normal(size=70_000),
            "n": np.array(round),
        }
        job.add(round, {"7": layers, "8": layers})
    return job


def rows(job, rounds):
    updates = [job.updates(r)[0] for r in rounds]
    return np.array([np.concatenate([u["a"].ravel(), u["b"]]) for u in updates], np.float64)


@pytest.mark.parametrize(
    ("scope", "rounds"),
    [
        ({}, [2, 5, 9, 14]),
        ({"round": 9}, [5, 9]),
        ({"round": 2}, [2]),
        ({"rounds": (14, 2, 14)}, [2, 14]),
    ],
)
def test_which_rounds_are_read(history, scope, rounds):
    assert history.ask(make("lineage"), client="7", **scope).rounds == rounds
    keys = make("lineage").needs(Scope("job", client="7", **scope), history)
    assert [(key.round, key.client) for key in keys] == [(r, "7") for r in rounds]


def test_norms_changes_and_cosines_equal_numpy(history):
    result = history.ask(make("lineage"), client="7")
    values = rows(history, result.rounds)
    np.testing.assert_allclose(result.norms, np.linalg.norm(values, axis=1), rtol=1e-6)
    np.testing.assert_allclose(result.change[1:], np.linalg.norm(np.diff(values, axis=0), axis=1), rtol=1e-6)
    inner = (values[1:] * values[:-1]).sum(axis=1) / result.norms[1:] / result.norms[:-1]
    np.testing.assert_allclose(result.cosine[1:], inner, atol=1e-6)
    assert np.isnan([result.change[0], result.cosine[0]]).all()
    assert result.checksums == [history.updates(r)[0].checksum for r in result.rounds]
    assert result.sizes_bytes == [history.updates(r)[0].size_bytes for r in result.rounds]
    assert result.most_changed == [[], ["b", "a"], ["b", "a"], ["b", "a"]]


def test_tensors_that_did_not_change_are_left_out(job):
    job.add(1, {"c": {"x": np.zeros(3), "y": np.ones(3), "z": np.ones(3)}})
    job.add(2, {"c": {"x": np.zeros(3), "y": np.full(3, 2.0), "z": np.full(3, 9.0)}})
    result = job.ask(make("lineage", top=1), client="c")
    assert result.most_changed == [[], ["z"]]
    assert job.ask(make("lineage"), client="c").most_changed == [[], ["z", "y"]]


def test_an_update_with_nan_and_one_with_other_layers_break_the_chain_only_there(job):
    job.add(1, {"c": {"x": np.array([3.0, 4.0]), "y": np.ones(2)}})
    job.add(2, {"c": {"x": np.array([np.nan, 4.0]), "y": np.zeros(2)}})
    job.add(3, {"c": {"x": np.ones(7)}})
    job.add(4, {"c": {"x": np.full(7, 3.0)}})
    result = job.ask(make("lineage"), client="c")
    np.testing.assert_array_equal(np.isnan(result.change), [True, True, True, False])
    np.testing.assert_array_equal(np.isnan(result.norms), [False, True, False, False])
    np.testing.assert_allclose(result.change[3], np.sqrt(28))
    np.testing.assert_allclose(result.cosine[3], 1)
    assert result.most_changed == [[], ["x", "y"], [], ["x"]]


def test_a_client_that_changed_its_precision_is_compared_all_the_same(job):
    job.add(1, {"c": {"x": np.array([1.0, 2.0], np.float16)}}).add(2, {"c": {"x": np.array([1.0, 5.0])}})
    assert job.ask(make("lineage"), client="c").change[1] == 3


def test_zero_updates_have_cosine_zero(job):
    job.add(1, {"c": {"x": np.zeros(2)}}).add(2, {"c": {"x": np.ones(2)}})
    assert job.ask(make("lineage"), client="c").cosine[1] == 0


def test_scopes_that_cannot_be_answered(history):
    lineage = make("lineage")
    with pytest.raises(InvalidParameterError, match="client='7'"):
        lineage.needs(Scope("job", round=2), history)
    with pytest.raises(UpdateNotFoundError, match=r"client '7' has no update in round 8.*4 rounds.*2, 5, 9, 14"):
        lineage.needs(Scope("job", round=8, client="7"), history)
    with pytest.raises(UpdateNotFoundError, match="round 3"):
        lineage.needs(Scope("job", rounds=(2, 3), client="7"), history)
    with pytest.raises(UpdateNotFoundError):
        lineage.needs(Scope("job", client="nobody"), history)
    with pytest.raises(InvalidParameterError, match="not both"):
        lineage.needs(Scope("job", round=2, rounds=(2,), client="7"), history)
    with pytest.raises(InvalidParameterError, match="rounds is empty"):
        lineage.needs(Scope("job", rounds=(), client="7"), history)
    with pytest.raises(InvalidParameterError, match="top=-1"):
        make("lineage", top=-1)


def test_frame_and_plot(history):
    result = history.ask(make("lineage"), client="7")
    assert result.frame().loc[9, "change"] == result.change[2]
    assert result.plot().get_title() == "Client 7"
