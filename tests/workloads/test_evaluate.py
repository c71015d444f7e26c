"""Weights are judged as plain torch and scikit-learn judge them; what does not fit is named."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from flstore.codec import decode, encode
from flstore.errors import InvalidParameterError
from flstore.federated.models import state_arrays
from flstore.types import Key, Kind
from flstore.workloads import _evaluate
from flstore.workloads._combine import weighted_mean
from flstore.workloads._evaluate import Evaluator, evaluator
from flstore.workloads._gram import is_finite
from tests.workloads import nets

torch = pytest.importorskip("torch")
NETS = "tests.workloads.nets"


def weights(name, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return state_arrays(getattr(nets, name)())


def plain(name, arrays, x):
    """What torch gives without any of ours."""
    model = getattr(nets, name)()
    model.load_state_dict({k: torch.tensor(np.asarray(v)) for k, v in arrays.items()})
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(x)).numpy()


def judge(name, data="images"):
    return evaluator("test", f"{NETS}:{name}", f"{NETS}:{data}")


@pytest.mark.parametrize(("name", "data"), [("convolutions", "images"), ("viewed", "images"), ("embedding", "tokens")])
def test_outputs_and_scores_are_those_of_torch_and_scikit_learn(name, data):
    found = judge(name, data)
    for seed in (1, 2, 1):
        arrays = weights(name, seed)
        x, y = getattr(nets, data)()
        expected = plain(name, arrays, x)
        np.testing.assert_allclose(found.outputs(arrays), expected, rtol=1e-4, atol=1e-5)
        assert found.score(arrays, "accuracy") == accuracy_score(y, expected.argmax(1))
        odds = np.exp(expected.astype("f8")) / np.exp(expected.astype("f8")).sum(1, keepdims=True)
        assert found.score(arrays, "loss") == pytest.approx(-log_loss(y, odds, labels=range(nets.CLASSES)), rel=1e-4)
        top2 = np.mean([label in row[-2:] for label, row in zip(y, expected.argsort(1), strict=True)])
        assert found.score(arrays, f"{NETS}:half_right") == top2


def test_a_net_that_needs_contiguous_images_runs_as_it_is():
    assert judge("viewed")._models[0].short is None
    assert len(judge("convolutions")._models[0].short) >= 5


def test_small_batches_give_the_same(monkeypatch):
    monkeypatch.setattr(_evaluate, "_BATCH_BYTES", 20_000)
    found = Evaluator("test", f"{NETS}:convolutions", f"{NETS}:images")
    assert 1 <= found._batch < nets.EXAMPLES
    arrays = weights("convolutions", 4)
    expected = judge("convolutions").outputs(arrays)
    np.testing.assert_allclose(found.outputs(arrays), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.outputs(arrays, batch_size=5), expected, rtol=1e-4, atol=1e-6)


def test_it_leaves_random_numbers_threads_and_weights_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    before = torch.get_num_threads()
    arrays = weights("convolutions", 5)
    kept = {name: array.copy() for name, array in arrays.items()}
    Evaluator("test", f"{NETS}:convolutions", f"{NETS}:images").score(arrays, "accuracy")
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == before
    assert all((arrays[name] == kept[name]).all() for name in kept)


def test_threads_share_one_model_and_one_at_a_time_has_it():
    found = judge("convolutions")
    assert judge("convolutions") is found
    many = [weights("convolutions", seed) for seed in range(6)]
    alone = [found.outputs(arrays) for arrays in many]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(found.outputs, many * 3))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 3, together, strict=True))
    done = threading.Event()

    def look(module):
        waiter.start()
        outputs = module(torch.from_numpy(found.x)).numpy()
        assert not done.is_set()
        return outputs

    waiter = threading.Thread(target=lambda: (found.outputs(many[1]), done.set()))
    (outputs,) = found.each(many[:1], look)
    np.testing.assert_allclose(outputs, alone[0], rtol=1e-4, atol=1e-5)
    waiter.join()
    assert done.is_set()


def test_only_a_few_are_kept(monkeypatch):
    monkeypatch.setattr(_evaluate, "KEPT", 2)
    first = judge("convolutions")
    judge("viewed")
    judge("convolutions", "wide_images")
    assert len(_evaluate._kept) == 2
    assert judge("convolutions") is not first


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_data_from_a_file_that_may_change(tmp_path, ending):
    from safetensors.numpy import save_file

    x, y = nets.images()
    path = str(tmp_path / f"held_out.{ending}")

    def write(labels):
        if ending == "npz":
            np.savez(path, x=x, y=labels)
        else:
            save_file({"x": x, "y": labels}, path)

    write(y)
    arrays = weights("convolutions")
    expected = judge("convolutions").score(arrays, "accuracy")
    assert evaluator("test", f"{NETS}:convolutions", path).score(arrays, "accuracy") == expected
    predictions = judge("convolutions").outputs(arrays).argmax(1)
    write(np.concatenate([predictions, predictions])[: len(y)].copy() if ending == "npz" else predictions.copy())
    assert evaluator("test", f"{NETS}:convolutions", f"file://{path}").score(arrays, "accuracy") == 1.0
    assert evaluator("test", f"{NETS}:convolutions", path).score(arrays, "accuracy") == 1.0


def test_other_dtypes_of_weights_and_data():
    arrays = weights("convolutions")
    narrow = {n: a.astype(ml_dtypes.bfloat16) if a.dtype == np.float32 else a for n, a in arrays.items()}
    wide = {n: a.astype(np.float32) if a.dtype == ml_dtypes.bfloat16 else a for n, a in narrow.items()}
    found = judge("convolutions")
    np.testing.assert_array_equal(found.outputs(narrow), found.outputs(wide))
    assert judge("convolutions", "wide_images").x.dtype == np.float32
    np.testing.assert_array_equal(judge("convolutions", "wide_images").outputs(arrays), found.outputs(arrays))


def test_a_model_of_bfloat16():
    found = judge("brief")
    outputs = found.outputs(weights("convolutions", 3))
    assert (outputs.dtype, found.x.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(outputs, judge("convolutions").outputs(weights("convolutions", 3)), atol=0.05)


def test_read_only_weights_warn_of_nothing_and_filters_stay(recwarn):
    import warnings

    before = list(warnings.filters)
    arrays = update(weights("convolutions"))
    assert not arrays["15.bias"].flags.writeable
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(judge("convolutions").outputs, [arrays] * 20))
    assert list(warnings.filters) == before
    assert len(recwarn) == 0


def test_an_output_that_is_not_finite_is_a_mistake():
    arrays = weights("convolutions")
    arrays["15.weight"] = arrays["15.weight"] * np.nan
    assert judge("convolutions").score(arrays, "accuracy") == 0.0
    assert np.isnan(judge("convolutions").score(arrays, "loss"))


@pytest.mark.parametrize(
    ("model", "data", "says"),
    [
        ("nowhere", "images", "nowhere"),
        ("not_a_net", "images", "returned a str, not a torch model"),
        ("pair", "images", "gives tuple for 4 examples"),
        ("convolutions", "tokens", r"cannot take the data of .*tokens, shape \[4, 5\] of torch.int64"),
        ("convolutions", "empty", "at least one example"),
        ("convolutions", "no_pair", r"must return \(x, y\), not a list"),
    ],
)
def test_models_and_data_that_cannot_be(model, data, says):
    with pytest.raises(InvalidParameterError, match=says):
        judge(model, data)


@pytest.mark.parametrize(
    ("data", "metric", "says"),
    [
        ("unlabelled", "accuracy", "no labels: metric='accuracy' needs integer labels"),
        ("wrong_labels", "loss", "labels from 9 to 9 for 4 classes"),
        ("amounts", "accuracy", "labels of shape"),
        ("images", "f1", "metric='f1' is unknown; choose 'accuracy', 'loss' or"),
        ("images", f"{NETS}:broken_metric", "broken_metric.. raised ZeroDivisionError.*no examples"),
        ("images", f"{NETS}:no_such", "cannot be imported"),
    ],
)
def test_metrics_that_cannot_judge(data, metric, says):
    with pytest.raises(InvalidParameterError, match=says):
        judge("convolutions", data).score(weights("convolutions"), metric)


@pytest.mark.parametrize(
    ("path", "says"),
    [("absent.npz", "FileNotFoundError"), ("text.npz", "cannot be read"), ("other.npz", "no array 'x'; it has: z")],
)
def test_files_without_data(tmp_path, path, says):
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", z=np.ones(3))
    with pytest.raises(InvalidParameterError, match=says):
        evaluator("test", f"{NETS}:convolutions", str(tmp_path / path))


def test_a_file_of_objects_is_not_unpickled(tmp_path):
    path = str(tmp_path / "objects.npz")
    np.savez(path, x=np.array([{"a": 1}, None], dtype=object), y=np.zeros(2))
    with pytest.raises(InvalidParameterError, match="allow_pickle=False"):
        evaluator("test", f"{NETS}:convolutions", path)


def test_weights_that_do_not_fit_are_named():
    found, arrays = judge("convolutions"), weights("convolutions")
    lacking = {name: array for name, array in arrays.items() if name != "15.bias"}
    with pytest.raises(InvalidParameterError, match=r"does not fit: tensor '15.bias', which the stored object lacks"):
        found.outputs(lacking)
    key = Key("job", Kind.UPDATE, 3, "c7")
    further = decode(encode(key, {**arrays, "more": np.ones(2)}))
    with pytest.raises(
        InvalidParameterError, match="client 'c7' in round 3 of job 'job', does not fit: tensor 'more', which is not"
    ):
        found.outputs(further)
    with pytest.raises(InvalidParameterError, match=r"(?s)does not fit what is stored.*size mismatch for 15.bias"):
        found.outputs({**arrays, "15.bias": np.ones(7, "f4")})
    assert np.isfinite(found.outputs(arrays)).all()  # and it goes on


def update(arrays, client="c"):
    return decode(encode(Key("job", Kind.UPDATE, 1, client), arrays))


def test_weighted_mean_against_numpy(random):
    made = [
        {
            "w": random.normal(size=(3, 4)).astype("f4"), "wide": random.normal(size=5), "s": np.array(10 * i),
            "half": random.normal(size=4).astype("f2"), "brain": random.normal(size=4).astype(ml_dtypes.bfloat16),
            "scalar": np.array(float(i), "f4"),
        }
        for i in range(3)
    ]  # fmt: skip
    shares = [0.5, 0.2, 0.3]
    found = weighted_mean([update(arrays, str(i)) for i, arrays in enumerate(made)], shares)
    for name in made[0]:
        expected = sum(s * arrays[name].astype("f8") for s, arrays in zip(shares, made, strict=True))
        assert isinstance(found[name], np.ndarray)
        assert found[name].dtype == made[0][name].dtype
        precision = {"half": 1e-3, "brain": 1e-2}.get(name, 1e-6)
        np.testing.assert_allclose(np.asarray(found[name], "f8"), expected, rtol=precision, atol=1e-7)


def test_finite_or_not():
    large = np.full(3, 3e38, "f4")  # its square is not finite
    assert is_finite(update({"w": large, "n": np.array(3)}))
    assert is_finite({"w": large})
    for dtype in ("f4", "f8", "f2", ml_dtypes.bfloat16, "c8"):
        assert is_finite(update({"w": np.ones(9, dtype)}))
        for bad in (np.nan, np.inf):
            array = np.ones(9, dtype)
            array[4] = bad
            assert not is_finite(update({"v": np.ones(2, "f4"), "w": array}))
