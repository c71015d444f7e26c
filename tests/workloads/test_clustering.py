"""k-means in the Gram space against scikit-learn's on the data."""

import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from flstore.errors import InvalidParameterError
from flstore.workloads import Scope, make
from flstore.workloads._kmeans import lloyd, spread


def sklearn_partition(rows, initial, max_iter=300):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(len(initial), init=rows[initial], n_init=1, algorithm="lloyd", max_iter=max_iter).fit(rows)


def same_as_sklearn(rows, initial, max_iter=300):
    expected = sklearn_partition(rows, initial, max_iter)
    found = lloyd(rows @ rows.T, np.array(initial), dimensions=rows.shape[1], max_iter=max_iter)
    assert found.labels.tolist() == expected.labels_.tolist()
    assert found.iterations == expected.n_iter_
    np.testing.assert_allclose(found.inertia, expected.inertia_, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(np.sqrt(found.distances), expected.transform(rows), atol=1e-6)


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize(("count", "size", "k"), [(10, 400, 3), (60, 2, 7), (40, 5, 40), (200, 3, 12), (12, 30, 1)])
def test_equals_scikit_learn_on_random_data(seed, count, size, k):
    random = np.random.default_rng(seed)
    same_as_sklearn(random.normal(size=(count, size)), random.choice(count, k, replace=False))


@pytest.mark.parametrize("seed", range(10))
def test_equals_scikit_learn_on_groups(seed):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(4, 20))[random.integers(4, size=50)] * 3 + random.normal(size=(50, 20))
    same_as_sklearn(rows, random.choice(50, 4, replace=False))


@pytest.mark.parametrize("max_iter", [1, 2, 3])
def test_equals_scikit_learn_when_stopped_early(max_iter):
    random = np.random.default_rng(8)
    same_as_sklearn(random.normal(size=(200, 3)), random.choice(200, 9, replace=False), max_iter)


def test_equals_scikit_learn_when_a_cluster_runs_empty():
    # Two centres on one point: the second never wins, and takes the point farthest from its own centre.
    rows = np.array([[0.0, 0], [0, 0], [1, 0], [5, 1], [5, 0], [9, 3.5]])
    same_as_sklearn(rows, [0, 1, 3])
    same_as_sklearn(rows, [0, 1, 2])


def test_equal_vectors_with_more_clusters_than_points_end_in_one_cluster():
    same_as_sklearn(np.ones((5, 4)), [0, 1, 2])


def test_more_distinct_first_centres_than_distinct_vectors():
    rows = np.array([[0.0], [0.0], [0.0]])
    assert sorted(spread(rows @ rows.T, 3, np.random.default_rng(0)).tolist()) == [0, 1, 2]


def model(random, scale):
    """Layers shaped like a small ResNet, float32, with a counter."""
    shapes = {
        "conv1": (64, 3, 7, 7),
        "bn1.weight": (64,),
        "conv2": (64, 64, 3, 3),
        "conv3": (128, 64, 3, 3),
        "fc": (10, 512),
    }
    layers = {name: (scale * random.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    return {**layers, "bn1.count": np.array(7)}


def ingest(job, random, groups, noise=0.02):
    """One client a letter of `groups`; clients of a letter move alike."""
    base = model(random, 1.0)
    moves = {letter: model(random, 0.02) for letter in sorted(set(groups))}
    for i, letter in enumerate(groups):
        own = model(random, noise)
        update = {n: base[n] if n == "bn1.count" else base[n] + moves[letter][n] + own[n] for n in base}
        job.add(3, {f"{i:02}": update})
    return job.add(2, {}, aggregate=base)


@pytest.mark.parametrize("of", ["delta", "model"])
def test_real_layers_given_first_centres_equal_scikit_learn(job, random, of):
    ingest(job, random, "aabbccabca", noise=0.03)
    result = job.ask(make("clustering", k=3, of=of, initial=["00", "01", "02"]), round=3)
    names = [n for n in job.updates(3)[0] if n != "bn1.count"]
    rows = np.array([np.concatenate([u[n].ravel() for n in names]) for u in job.updates(3)], np.float64)
    expected = sklearn_partition(rows, [0, 1, 2])
    assert result.labels.tolist() == expected.labels_.tolist()
    np.testing.assert_allclose(result.inertia, expected.inertia_, rtol=1e-4)
    np.testing.assert_allclose(result.distances, expected.transform(rows), rtol=1e-3)
    assert (result.of, result.k, result.iterations) == (of, 3, expected.n_iter_)


def test_seeded_starts_find_planted_groups_and_repeat(job, random):
    groups = "abcabcaabbcc"
    ingest(job, random, groups)
    result = job.ask(make("clustering", k=3, seed=4), round=3)
    again = job.ask(make("clustering", k=3, seed=4), round=3)
    assert result.labels.tolist() == again.labels.tolist()
    assert len(set(zip(groups, result.labels.tolist(), strict=True))) == 3
    # Groups show on the map: its distances are the true ones as far as two dimensions go.
    near = cdist(result.coordinates, result.coordinates)
    alike = np.array([[a == b for b in groups] for a in groups])
    assert near[alike].max() < near[~alike].min()


def test_map_keeps_distances_that_fit_in_a_plane(job):
    points = {"a": [0, 0, 1], "b": [3, 0, 1], "c": [0, 4, 1], "d": [3, 4, 1]}
    job.add(1, {c: {"w": np.array(p, np.float32)} for c, p in points.items()})
    result = job.ask(make("clustering", k=2), round=1)
    rows = np.array(list(points.values()), float)
    np.testing.assert_allclose(cdist(result.coordinates, result.coordinates), cdist(rows, rows), atol=1e-6)


@pytest.mark.parametrize("of", ["delta", "model"])
def test_nonfinite_clients_get_no_cluster(job, random, of):
    ingest(job, random, "ababab")
    for client in ("00", "03"):
        broken = {n: np.array(t) for n, t in job.updates(3)[int(client)].items()}
        broken["fc"][0, 0] = np.nan
        job.add(3, {client: broken})
    result = job.ask(make("clustering", k=2, of=of), round=3)
    assert result.nonfinite == ["00", "03"]
    assert result.labels[[0, 3]].tolist() == [-1, -1]
    assert result.labels[1] == result.labels[5] != result.labels[2] == result.labels[4]
    assert np.isfinite(result.distances[[1, 2, 4, 5]]).all()
    with pytest.raises(InvalidParameterError, match="k=5, but the round has 4 clients with finite updates"):
        job.ask(make("clustering", k=5, of=of), round=3)


def test_one_client_is_one_cluster_and_cannot_be_two(job):
    job.add(1, {"a": {"w": np.arange(3.0)}})
    result = job.ask(make("clustering", k=1), round=1)
    assert (result.labels.tolist(), result.inertia, result.coordinates.tolist()) == ([0], 0.0, [[0.0, 0.0]])
    with pytest.raises(InvalidParameterError, match="k=3, but the round has 1 clients"):
        make("clustering").needs(Scope("job", round=1), job)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"k": 0}, "k=0.*at least 1"),
        ({"k": 2.0}, "k is an integer"),
        ({"k": True}, "k is an integer"),
        ({"of": "weights"}, "of='weights'.*'delta'"),
        ({"seed": -1}, "seed=-1"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"k": 2, "initial": ["a"]}, "initial names 2 different clients"),
        ({"k": 2, "initial": ["a", "a"]}, "initial names 2 different clients"),
        ({"k": 2, "initial": "ab"}, "initial is a list of client ids"),
    ],
)
def test_bad_parameters_are_named(params, message):
    with pytest.raises(InvalidParameterError, match=message):
        make("clustering", **params)


def test_unknown_first_centres_are_named(job):
    job.add(1, {c: {"w": np.arange(3.0)} for c in "ab"})
    with pytest.raises(InvalidParameterError, match=r"'z'.*a, b"):
        make("clustering", k=2, initial=["a", "z"]).needs(Scope("job", round=1), job)


def test_frame_and_plot(job, random):
    ingest(job, random, "aabb")
    result = job.ask(make("clustering", k=2), round=3)
    table = result.frame()
    np.testing.assert_allclose(np.sum(table["distance"] ** 2), result.inertia)
    assert [text.get_text() for text in result.plot().texts] == ["00", "01", "02", "03"]
