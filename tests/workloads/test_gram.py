"""The Gram matrix against NumPy in float64 and SciPy, over dtypes, chunks, faults and layouts."""

import warnings

import ml_dtypes
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from flstore.errors import InvalidUpdateError
from flstore.types import Key, Kind
from flstore.workloads import _gram
from flstore.workloads._gram import centred, cosine, gram, norms, squared_distances


def vectors(updates, reference=None):
    """Brute force: all floating-point values of each update, tensor by tensor, in float64."""

    def one(update):
        floating = [update[name] for name in sorted(update) if update[name].dtype.kind not in "biu"]
        return np.concatenate([tensor.astype(np.float64).ravel() for tensor in floating])

    rows = np.array([one(update) for update in updates])
    return rows if reference is None else rows - one(reference)


@pytest.mark.parametrize("clients", [1, 2, 10, 16, 17, 40])
def test_equals_float64_for_few_and_many_clients_over_several_chunks(job, random, clients):
    shapes = {"conv": (64, 333), "bias": (7,), "head": (311, 1001), "scalar": (), "empty": (0, 3)}
    job.add(
        1, {str(c): {n: random.normal(size=s).astype(np.float32) for n, s in shapes.items()} for c in range(clients)}
    )
    exact = vectors(job.updates())
    assert exact.shape[1] > 2 * _gram._LARGEST_CHUNK  # several chunks, the last one short
    np.testing.assert_allclose(gram(job.updates()), exact @ exact.T, rtol=1e-6, atol=1e-6 * exact.shape[1])


def test_mixed_dtypes_are_widened_and_counters_stay_out(job, random):
    dtypes = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64, ml_dtypes.float8_e4m3fn]
    job.add(
        1,
        {
            c: {
                **{str(np.dtype(d)): random.normal(size=(5, 41)).astype(d) for d in dtypes},
                "counter": np.full(3, 10**6 * (i + 1)),
                "mask": np.ones(4, bool),
            }
            for i, c in enumerate("abc")
        },
    )
    exact = vectors(job.updates())
    assert exact.shape == (3, 5 * 5 * 41)
    np.testing.assert_allclose(gram(job.updates()), exact @ exact.T, rtol=1e-6, atol=1e-4)


def test_half_precision_does_not_overflow(job):
    job.add(1, {c: {"w": np.full(1000, 300, np.float16)} for c in "ab"})
    assert gram(job.updates()).tolist() == [[9e7, 9e7], [9e7, 9e7]]


def test_complex_counts_as_two_real_numbers(job):
    job.add(1, {"a": {"w": np.array([1 + 2j], np.complex64)}, "b": {"w": np.array([3 - 1j], np.complex64)}})
    assert gram(job.updates()).tolist() == [[5, 1], [1, 10]]


def test_float64_tensors_are_computed_in_float64(job):
    job.add(1, {"a": {"w": np.array([1.0, 1e-9])}, "b": {"w": np.array([1.0, -1e-9])}})
    difference = gram(job.updates(), job.updates()[0])[1, 1]
    np.testing.assert_allclose(difference, 4e-18, rtol=1e-12)


def test_values_too_large_for_float32_products_are_not_infinite(job):
    job.add(1, {"a": {"w": np.full(100, 1e25, np.float32)}, "b": {"w": np.ones(100, np.float32)}})
    np.testing.assert_allclose(gram(job.updates()), [[1e52, 1e27], [1e27, 100]], rtol=1e-6)


@pytest.mark.parametrize("clients", [5, 20])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_nonfinite_values_stay_in_their_row_and_column_without_warnings(job, random, clients, poison):
    rows = {f"{c:02}": random.normal(size=300).astype(np.float32) for c in range(clients)}
    rows["03"][7] = poison
    job.add(1, {c: {"w": row} for c, row in rows.items()})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        products = gram(job.updates())
        distances, similarity = squared_distances(products), cosine(products)
    others = np.arange(clients) != 3
    exact = vectors(job.updates())[others]
    np.testing.assert_allclose(products[np.ix_(others, others)], exact @ exact.T, rtol=1e-5, atol=1e-3)
    assert not np.isfinite(products[3]).any()
    assert not np.isfinite(products[:, 3]).any()
    assert np.isnan(similarity[3]).all()
    assert not np.isfinite(distances[3]).any()
    assert np.isfinite(similarity[np.ix_(others, others)]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_reference_is_subtracted(job, random, dtype):
    job.add(1, {c: {"w": random.normal(size=(30, 7)).astype(dtype), "n": np.array(5)} for c in "abc"})
    job.add(0, {}, aggregate={"w": random.normal(size=(30, 7)).astype(dtype), "n": np.array(4)})
    reference = job.data[Key("job", Kind.AGGREGATE, 0)]
    exact = vectors(job.updates(), reference)
    np.testing.assert_allclose(gram(job.updates(), reference), exact @ exact.T, rtol=1e-5, atol=1e-4)


def test_small_deltas_of_large_common_weights_keep_their_digits(job, random):
    common = (random.normal(size=200_000) * 100).astype(np.float32)
    direction = random.normal(size=200_000)
    rows = {c: (common + 1e-2 * (direction + random.normal(size=200_000))).astype(np.float32) for c in "abcd"}
    job.add(1, {c: {"w": row} for c, row in rows.items()}).add(0, {}, aggregate={"w": common})
    exact = np.array(list(rows.values()), np.float64) - common.astype(np.float64)
    np.testing.assert_allclose(gram(job.updates(), job.data[Key("job", Kind.AGGREGATE, 0)]), exact @ exact.T, rtol=1e-4)


def test_reference_may_have_other_dtypes_and_more_tensors(job, random):
    # An averaged counter is a float, and an aggregate in double precision is common.
    job.add(1, {c: {"w": random.normal(size=(9, 5)).astype(np.float32), "n": np.array(3)} for c in "ab"})
    job.add(0, {}, aggregate={"w": random.normal(size=(9, 5)), "n": np.array(2.5), "more": np.ones(2)})
    reference = job.data[Key("job", Kind.AGGREGATE, 0)]
    exact = np.array([u["w"].ravel() - reference["w"].ravel() for u in job.updates()])
    np.testing.assert_allclose(gram(job.updates(), reference), exact @ exact.T, rtol=1e-12)


@pytest.mark.parametrize(
    "other", [{"w": np.ones((2, 3), np.float32)}, {"w": np.ones(6)}, {"v": np.ones(6, np.float32)}]
)
def test_different_signatures_name_client_and_tensor(job, other):
    job.add(1, {"a": {"w": np.ones(6, np.float32)}, "b": {"w": np.ones(6, np.float32)}, "odd": other})
    with pytest.raises(InvalidUpdateError, match=r"client 'odd'.*tensor '[vw]'"):
        gram(job.updates())


def test_reference_with_averaged_counters_is_read_in_stretches_and_not_tensor_by_tensor(job, random):
    def update(i):
        weights = {f"{n}.weight": random.normal(size=(4, 16)).astype(np.float32) for n in range(40)}
        biases = {f"{n}.bias": random.normal(size=3).astype(np.float32) for n in range(40)}
        return {**weights, **biases, **{f"{n}.counter": np.array(i) for n in range(40)}}

    job.add(1, {c: update(i) for i, c in enumerate("abc")})
    job.add(0, {}, aggregate={n: t.astype(float) if "counter" in n else t for n, t in update(7).items()})
    reference = job.data[Key("job", Kind.AGGREGATE, 0)]
    names = [name for name in reference if "counter" not in name]
    exact = np.array([np.concatenate([(u[n] - reference[n]).ravel() for n in names]) for u in job.updates()])
    np.testing.assert_allclose(gram(job.updates(), reference), exact @ exact.T, rtol=1e-5, atol=1e-4)
    assert len(list(job.updates()[0].shared_runs(reference))) == 3  # weights, counters, biases


def test_reference_of_complex_numbers_is_no_origin_of_real_ones(job):
    job.add(1, {"a": {"w": np.ones(2, np.float32)}}).add(0, {}, aggregate={"w": np.ones(2, np.complex64)})
    with pytest.raises(InvalidUpdateError, match="'w'"):
        gram(job.updates(), job.data[Key("job", Kind.AGGREGATE, 0)])


def test_reference_of_another_shape_names_the_tensor(job):
    job.add(1, {"a": {"w": np.ones(6, np.float32)}}).add(0, {}, aggregate={"w": np.ones(5, np.float32)})
    with pytest.raises(InvalidUpdateError, match=r"tensor 'w': float32\[6\] against float32\[5\].*of='model'"):
        gram(job.updates(), job.data[Key("job", Kind.AGGREGATE, 0)])


def test_updates_without_floating_point_tensors_are_refused(job):
    job.add(1, {"a": {"q": np.ones(6, np.int8)}})
    with pytest.raises(InvalidUpdateError, match="no floating-point tensor"):
        gram(job.updates())


def test_derived_matrices_equal_scipy(job, random):
    rows = random.normal(size=(8, 50))
    rows[4] = rows[2]
    rows[5] = 0
    products = rows @ rows.T
    distances = squared_distances(products)
    np.testing.assert_allclose(distances, cdist(rows, rows, "sqeuclidean"), atol=1e-12)
    assert distances.min() >= 0
    others = [0, 1, 2, 3, 4, 6, 7]
    similarity = cosine(products)
    expected = 1 - cdist(rows[others], rows[others], "cosine")
    np.testing.assert_allclose(similarity[np.ix_(others, others)], expected, atol=1e-12)
    assert similarity.max() <= 1
    assert not similarity[5].any()
    assert not similarity[:, 5].any()
    np.testing.assert_allclose(norms(products), np.linalg.norm(rows, axis=1))
    middle = rows - rows.mean(axis=0)
    np.testing.assert_allclose(centred(products), middle @ middle.T, atol=1e-12)


def test_no_updates_give_an_empty_matrix():
    assert gram([]).shape == (0, 0)
