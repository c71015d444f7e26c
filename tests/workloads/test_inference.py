"""What a model answers, and for which classes it is good: against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, recall_score

from flstore.errors import InvalidParameterError
from flstore.workloads import inference, make
from tests.workloads import linear, nets

pytest.importorskip("torch")


def test_fairness_over_classes(job):
    arrays = linear.update(3, 1.0)
    job.add(1, {"a": linear.update(4, 5.0)}, aggregate=arrays)
    result = job.ask(make("inference", **linear.TASK), round=1)
    y, outputs = linear.data()[1], linear.outputs(arrays)
    np.testing.assert_allclose(result.outputs, outputs, rtol=1e-4, atol=1e-5)
    recalls = recall_score(y, outputs.argmax(1), average=None, labels=range(4))
    np.testing.assert_allclose(result.class_accuracy, recalls)
    assert result.class_examples.tolist() == [int((y == c).sum()) for c in range(4)]
    assert result.worst_class == int(recalls.argmin())
    assert result.spread == pytest.approx(recalls.max() - recalls.min())
    assert result.accuracy == result.score == linear.accuracy(arrays)
    odds = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    assert result.loss == pytest.approx(log_loss(y, odds), rel=1e-5)
    assert result.metric == "accuracy"
    of_client = job.ask(make("inference", **linear.TASK), round=1, client="a")
    assert of_client.accuracy == linear.accuracy(linear.update(4, 5.0))


def test_other_metrics(job):
    job.add(1, {}, aggregate=linear.update(3, 1.0))
    by_loss = job.ask(make("inference", metric="loss", **linear.TASK), round=1)
    assert by_loss.score == -by_loss.loss
    own = job.ask(make("inference", metric="tests.workloads.nets:half_right", **linear.TASK), round=1)
    assert own.score == nets.half_right(linear.outputs(linear.update(3, 1.0)), linear.data()[1])


def test_a_class_without_examples_is_neither_best_nor_worst(job):
    job.add(1, {}, aggregate=linear.update(3, 1.0))
    result = job.ask(
        make("inference", **{**linear.TASK, "data": "tests.workloads.test_inference:two_classes"}), round=1
    )
    assert np.isnan(result.class_accuracy[2:]).all()
    assert result.worst_class in (0, 1)
    assert result.spread == pytest.approx(abs(result.class_accuracy[0] - result.class_accuracy[1]))


def two_classes():
    x, y = linear.data()
    return x[y < 2], y[y < 2]


def unlabelled():
    return linear.data()[0], None


def amounts():
    x, _ = linear.data()
    return x, linear.outputs(linear.update(0, 1.0)) + 1


def beyond():
    return linear.data()[0], linear.data()[1] + 4


def test_without_labels_of_classes(job):
    job.add(1, {}, aggregate=linear.update(0, 1.0))

    def ask(data, **params):
        where = {**linear.TASK, "data": f"tests.workloads.test_inference:{data}"}
        return job.ask(make("inference", **where, **params), round=1)

    bare = ask("unlabelled", metric="accuracy")
    assert np.isnan([bare.loss, bare.accuracy, bare.spread, bare.score]).all()
    assert (bare.worst_class, len(bare.class_accuracy), len(bare.frame())) == (-1, 0, 60)
    far = ask("amounts")
    assert far.loss == pytest.approx(1.0, rel=1e-4)
    assert np.isnan([far.accuracy, far.score]).all()
    with pytest.raises(InvalidParameterError, match="needs integer labels"):
        ask("amounts", metric="accuracy")
    with pytest.raises(InvalidParameterError, match="labels from 4 to 7 for 4 classes"):
        ask("beyond")


def test_a_model_that_is_not_finite_is_right_about_nothing(job):
    job.add(1, {}, aggregate=linear.tensors(np.full((8, 4), np.nan)))
    result = job.ask(make("inference", **linear.TASK), round=1)
    assert (result.accuracy, result.spread) == (0.0, 0.0)
    assert np.isnan(result.loss)


def test_a_large_model_runs_on_the_memory_that_holds_it(job, monkeypatch):
    job.add(1, {}, aggregate=linear.update(3, 1.0))
    usual = job.ask(make("inference", **linear.TASK), round=1)
    monkeypatch.setattr(inference, "LARGE_BYTES", 0)
    monkeypatch.setattr(inference, "evaluator", None)
    large = job.ask(make("inference", **linear.TASK), round=1)
    np.testing.assert_allclose(large.outputs, usual.outputs, rtol=1e-5, atol=1e-6)
    assert large.accuracy == usual.accuracy


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({**linear.TASK, "batch_size": 0}, "batch_size=0.*at least 1"),
        ({**linear.TASK, "metric": "f1"}, "metric='f1' is unknown"),
        ({"model": linear.TASK["model"]}, r"inference needs 'data'.*store.task\(model="),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        make("inference", **params)


def test_an_empty_held_out_set_is_named(job):
    job.add(1, {}, aggregate=linear.update(3, 1.0))
    with pytest.raises(InvalidParameterError, match=r"nets:empty.*at least one example"):
        job.ask(make("inference", **{**linear.TASK, "data": "tests.workloads.nets:empty"}), round=1)


def test_frame_and_plot(job):
    job.add(1, {}, aggregate=linear.update(3, 1.0))
    result = job.ask(make("inference", **linear.TASK), round=1)
    assert result.frame()["accuracy"].tolist() == result.class_accuracy.tolist()
    assert len(result.plot().patches) == 4
    assert "worst_class" in result._repr_html_()
