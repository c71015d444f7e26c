"""Aggregation against NumPy and SciPy on the stacked updates."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from scipy.stats import trim_mean

from flstore.errors import InvalidParameterError, InvalidUpdateError
from flstore.functions import wire
from flstore.testing.workloads import check_workload
from flstore.workloads import Scope, make
from flstore.workloads._combine import exchanges
from flstore.workloads.aggregation import Aggregation, AggregationResult

REFERENCE = {
    "mean": lambda rows, weights: np.average(rows, axis=0, weights=weights),
    "median": lambda rows, weights: np.median(rows, axis=0),
    "trimmed_mean": lambda rows, weights: trim_mean(rows, 0.2, axis=0),
}
DTYPES = ["float32", "float64", "float16", ml_dtypes.bfloat16, "int64", "int8", "uint8", "bool"]
LONG = 70_000  # more than two chunks


def drawn(random, dtype, shape):
    values = random.normal(size=shape) * 40
    if np.dtype(dtype) == bool:
        return values > 0
    return (np.abs(values) if np.dtype(dtype).kind == "u" else values).astype(dtype)


def ingest(job, random, clients, **dtypes):
    shapes = {name: (LONG,) if name == "long" else (3, 5) for name in dtypes}
    updates = {c: {n: drawn(random, d, shapes[n]) for n, d in dtypes.items()} for c in clients}
    examples = {c: int(random.integers(1, 500)) for c in clients}
    job.add(1, updates, metadata={c: {"num-examples": examples[c]} for c in clients})
    return updates, np.array([examples[c] for c in sorted(clients)])


@pytest.mark.parametrize("rule", REFERENCE)
@pytest.mark.parametrize("clients", ["abcdefg", "abcd", "a"])
def test_equals_numpy_and_scipy_for_every_dtype_and_across_chunks(job, random, rule, clients):
    dtypes = {"long": "float32"} | {str(i): dtype for i, dtype in enumerate(DTYPES)}
    updates, weights = ingest(job, random, clients, **dtypes)
    result = job.ask(make("aggregation", rule=rule, trim=0.2), round=1)
    assert list(result.tensors) == list(dtypes)
    for name, dtype in dtypes.items():
        rows = np.stack([updates[c][name] for c in clients]).astype(np.float64)
        expected = REFERENCE[rule](rows, weights)
        found = result.tensors[name]
        assert found.dtype == np.dtype(dtype)
        if np.dtype(dtype).kind in "iub":
            np.testing.assert_array_equal(found, np.rint(expected), err_msg=f"{name} {dtype}")
        else:
            close = float(ml_dtypes.finfo(dtype).eps)
            np.testing.assert_allclose(found.astype(np.float64), expected, rtol=close, atol=1e-13, err_msg=name)
    assert result.trimmed == {"mean": 0, "median": (len(clients) - 1) // 2}.get(rule, int(0.2 * len(clients)))


@pytest.mark.parametrize("rule", REFERENCE)
def test_who_is_left_out_is_as_if_never_there(job, random, rule):
    updates, weights = ingest(job, random, "abcde", long="float32")
    result = job.ask(make("aggregation", rule=rule, trim=0.2, without=["d", "a"]), round=1)
    rows = np.stack([updates[c]["long"] for c in "bce"]).astype(np.float64)
    assert result.clients == ["b", "c", "e"]
    expected = REFERENCE[rule](rows, weights[[1, 2, 4]])
    np.testing.assert_allclose(result.tensors["long"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("a", "a list of client ids, not 'a'"),
        ([1], r"a list of client ids, not \[1\]"),
        (["z"], "names 'z', not among the clients of round 1: a, b"),
        (["a", "b"], "names every client of round 1"),
    ],
)
def test_leaving_out_whom_there_is_not_or_all_is_refused(job, random, without, message):
    ingest(job, random, "ab", long="float32")
    with pytest.raises(InvalidParameterError, match=message):
        job.ask(make("aggregation", without=without), round=1)


def test_sums_are_taken_in_float64(job):
    job.add(1, {"a": {"w": np.float32([1e8])}, "b": {"w": np.float32([1.0])}, "c": {"w": np.float32([-1e8])}})
    assert job.ask(make("aggregation"), round=1).tensors["w"] == pytest.approx(1 / 3, rel=1e-6)


def test_complex_numbers_scalars_and_empty_tensors(job):
    named = {"a": 1 + 2j, "b": 3 + 4j, "c": 11 + 0j}
    job.add(
        1, {c: {"z": np.complex64([v]), "0d": np.array(v.real), "none": np.empty((0, 3))} for c, v in named.items()}
    )
    mean, median = (job.ask(make("aggregation", rule=rule), round=1).tensors for rule in ("mean", "median"))
    np.testing.assert_allclose(mean["z"], [5 + 2j])
    assert median["z"][0] == 3 + 2j
    assert (mean["0d"].shape, mean["0d"], median["0d"], mean["none"].shape) == ((), 5.0, 3.0, (0, 3))


def test_large_counters_are_exact(job):
    top = np.iinfo(np.int64).max
    job.add(1, {c: {"n": np.array([top, i]), "u": np.array([2**64 - 1 - i], "u8")} for i, c in enumerate("abc")})
    for rule in REFERENCE:
        tensors = job.ask(make("aggregation", rule=rule), round=1).tensors
        assert (tensors["n"].tolist(), tensors["u"].tolist()) == ([top, 1], [2**64 - 2])


@pytest.mark.parametrize("field", ["num-examples", "num_examples", "examples"])
def test_weights_come_from_the_metadata_by_any_of_its_names(job, field):
    job.add(1, {"a": {"w": np.zeros(2)}, "b": {"w": np.ones(2)}}, metadata={"a": {field: 10}, "b": {field: 30}})
    result = job.ask(make("aggregation"), round=1)
    assert (result.weighting, result.weights.tolist(), result.unweighted) == ("examples", [0.25, 0.75], [])
    np.testing.assert_array_equal(result.tensors["w"], [0.75, 0.75])


@pytest.mark.parametrize("value", [None, float("nan"), -3, "many", True])
def test_a_missing_number_of_examples_makes_the_mean_an_equal_one_and_is_said(job, value):
    rows = {"a": {"examples": 10}, "b": {} if value is None else {"examples": value}}
    job.add(1, {"a": {"w": np.zeros(2)}, "b": {"w": np.ones(2)}}, metadata=rows)
    result = job.ask(make("aggregation"), round=1)
    assert (result.weighting, result.weights.tolist(), result.unweighted) == ("equal", [0.5, 0.5], ["b"])
    assert result.tensors["w"].tolist() == [0.5, 0.5]


def test_examples_that_are_all_zero_weigh_the_same(job):
    job.add(1, {c: {"w": np.ones(1) * i} for i, c in enumerate("ab")}, metadata={c: {"examples": 0} for c in "ab"})
    result = job.ask(make("aggregation"), round=1)
    assert (result.weighting, result.tensors["w"].tolist(), result.unweighted) == ("equal", [0.5], [])


@pytest.mark.parametrize("rule", REFERENCE)
def test_updates_that_are_not_finite_are_named_and_left_out(job, random, rule):
    updates, weights = ingest(job, random, "abcdef", long="float32", w="float64", n="int64")
    job.add(
        2, {c: updates[c] for c in "acdf"}, metadata={c: {"examples": int(weights["abcdef".index(c)])} for c in "acdf"}
    )
    updates["b"]["long"][69_999] = np.nan
    updates["e"]["w"][0, 0] = -np.inf
    job.add(1, updates)
    workload = make("aggregation", rule=rule, trim=0.3)
    result, without = job.ask(workload, round=1), job.ask(workload, round=2)
    assert result.nonfinite == ["b", "e"]
    assert result.trimmed == without.trimmed
    np.testing.assert_array_equal(result.weights, np.insert(without.weights, [1, 3], 0))
    for name, expected in without.tensors.items():
        np.testing.assert_array_equal(result.tensors[name], expected)


def test_a_round_without_a_finite_update_is_an_error(job):
    job.add(1, {c: {"w": np.array([np.nan])} for c in "ab"})
    with pytest.raises(InvalidUpdateError, match="every update of round 1 has NaN or infinities \\(clients a, b\\)"):
        job.ask(make("aggregation"), round=1)


def test_architectures_that_differ_are_an_error_that_names_a_tensor(job):
    job.add(1, {"a": {"w": np.ones(2), "b": np.ones(1)}, "b": {"w": np.ones(2), "b": np.ones(2)}})
    with pytest.raises(InvalidUpdateError, match=r"client 'b'.*differ in tensor 'b'"):
        job.ask(make("aggregation", rule="median"), round=1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rule": "krum"}, "rule='krum' is unknown; choose one of 'mean', 'median', 'trimmed_mean'"),
        ({"trim": 0.5}, "trim=0.5 is no number of at least 0 and below 0.5"),
        ({"trim": -0.1}, "below 0.5"),
        ({"trim": "some"}, "below 0.5"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        make("aggregation", **params)
    with pytest.raises(InvalidParameterError, match="about one round"):
        make("aggregation").needs(Scope("job"), None)


@pytest.mark.parametrize("count", [*range(11), 16, 33])
def test_exchanges_sort(count):
    # A network that sorts all zeros and ones sorts everything (Knuth 5.3.4, theorem Z).
    random = np.random.default_rng(count)
    whole = count <= 10
    rows = np.array(list(itertools.product([0, 1], repeat=count))).T if whole else random.random((count, 500))
    expected = np.sort(rows, axis=0)
    for low, high in exchanges(count):
        rows[[low, high]] = np.minimum(rows[low], rows[high]), np.maximum(rows[low], rows[high])
    np.testing.assert_array_equal(rows, expected)


def test_bfloat16_arrives_as_bfloat16(job, random):
    ingest(job, random, "ab", w=ml_dtypes.bfloat16, v=ml_dtypes.float8_e4m3fn)
    result = job.ask(make("aggregation"), round=1)
    arrived = wire.unpack_result(AggregationResult, wire.pack_result(result))
    for name, tensor in result.tensors.items():
        assert arrived.tensors[name].dtype == tensor.dtype
        np.testing.assert_array_equal(arrived.tensors[name], tensor)


@pytest.mark.parametrize("rule", REFERENCE)
def test_contract(rule):
    check_workload(lambda: Aggregation(rule=rule), scopes=[{"round": 2}])


def test_frame_and_plot(job, random):
    ingest(job, random, "abc", w="float32", n="int64")
    result = job.ask(make("aggregation"), round=1)
    table = result.frame()
    assert table["shape"].tolist() == ["3 x 5", "3 x 5"]
    np.testing.assert_allclose(table.loc["w", "mean"], result.tensors["w"].mean(), rtol=1e-6)
    assert "int64" in result._repr_html_()
    assert len(result.plot().patches) == 3
