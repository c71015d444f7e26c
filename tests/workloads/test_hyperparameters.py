"""Hyperparameters of recent rounds, from metadata alone."""

import numpy as np
import pytest

from flstore.errors import InvalidParameterError, UpdateNotFoundError
from flstore.types import Key, Kind
from flstore.workloads import Scope, make


@pytest.fixture
def trained(job):
    """Rounds 1 to 12; round 11 has no metadata, client b reports no loss in round 12."""
    for round in range(1, 13):
        updates = {c: {"w": np.ones(2, np.float32)} for c in "ab"}
        rows = {"a": {"lr": 0.1, "loss": 1 / round, "opt": "sgd"}, "b": {"lr": 0.3, "opt": "sgd", "loss": 2 / round}}
        if round == 12:
            del rows["b"]["loss"]
        job.add(round, updates, metadata=None if round == 11 else rows)
    return job


def rounds_read(job, workload, **scope):
    keys = workload.needs(Scope("job", **scope), job)
    assert all(key.kind is Kind.METADATA for key in keys)
    return sorted({key.round for key in keys})


def test_which_rounds_are_read(trained):
    assert rounds_read(trained, make("hyperparameters")) == [3, 4, 5, 6, 7, 8, 9, 10, 12]
    assert rounds_read(trained, make("hyperparameters", last=2)) == [12]
    assert rounds_read(trained, make("hyperparameters", last=3), round=5) == [3, 4, 5]
    assert rounds_read(trained, make("hyperparameters"), rounds=(9, 2)) == [2, 9]
    keys = make("hyperparameters", last=1).needs(Scope("job", client="b"), trained)
    assert keys == [Key("job", Kind.METADATA, 12, "b")]


def test_rows_columns_and_missing_values(trained):
    result = trained.ask(make("hyperparameters", last=3))
    assert result.rounds == [10, 10, 12, 12]
    assert result.clients == ["a", "b", "a", "b"]
    assert result.columns == {
        "lr": [0.1, 0.3, 0.1, 0.3],
        "loss": [1 / 10, 2 / 10, 1 / 12, None],
        "opt": ["sgd", "sgd", "sgd", "sgd"],
    }
    assert result.varying == ["loss", "lr"]


def test_frame_and_summary(trained):
    result = trained.ask(make("hyperparameters", last=3))
    table = result.frame()
    assert table.loc[(10, "b"), "lr"] == 0.3
    assert np.isnan(table.loc[(12, "b"), "loss"])
    summary = result.summary()
    np.testing.assert_allclose(summary.loc[10, ("loss", "mean")], 0.15)
    np.testing.assert_allclose(summary.loc[10, ("lr", "std")], np.std([0.1, 0.3], ddof=1))
    assert {name for name, _ in summary.columns} == {"lr", "loss"}


def test_fields_may_be_nested_and_may_be_called_round_and_client(job):
    rows = {"a": {"round": 99, "client": "z", "layers": [1, 2], "nan": float("nan")}, "b": {"layers": [1, 2]}}
    job.add(3, {c: {"w": np.ones(1)} for c in "ab"}, metadata=rows)
    result = job.ask(make("hyperparameters"))
    assert (result.rounds, result.clients) == ([3, 3], ["a", "b"])
    assert result.columns["round"] == [99, None]
    assert result.columns["layers"] == [[1, 2], [1, 2]]
    assert "layers" not in result.varying
    assert result.frame().loc[(3, "a"), "client"] == "z"


def test_nothing_known_is_an_error_that_says_what_to_do(trained, job):
    with pytest.raises(UpdateNotFoundError, match=r"rounds 11 to 11.*metadata=\{"):
        make("hyperparameters", last=1).needs(Scope("job", round=11), trained)
    with pytest.raises(UpdateNotFoundError, match="nothing of 77"):
        make("hyperparameters").needs(Scope("job", round=77), trained)
    with pytest.raises(UpdateNotFoundError, match="client 'zoe'"):
        make("hyperparameters").needs(Scope("job", client="zoe"), trained)
    job.data.clear()
    with pytest.raises(UpdateNotFoundError, match="no rounds"):
        make("hyperparameters").needs(Scope("job"), job)


def test_bad_parameters(trained):
    with pytest.raises(InvalidParameterError, match="last=0"):
        make("hyperparameters", last=0)
    with pytest.raises(InvalidParameterError, match="not both"):
        make("hyperparameters").needs(Scope("job", round=3, rounds=(3,)), trained)


def test_plot_takes_a_field_that_varies(trained):
    result = trained.ask(make("hyperparameters", last=5))
    assert result.plot().get_ylabel() == "lr"
    assert result.plot("loss").get_ylabel() == "loss"
    with pytest.raises(InvalidParameterError, match=r"'opt'.*lr, loss"):
        result.plot("opt")
