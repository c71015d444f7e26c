import numpy as np
import pytest
from sklearn.datasets import load_digits

from flstore.errors import InvalidParameterError
from flstore.federated import digits, dirichlet_partition

LABELS = np.repeat(np.arange(10), 100)


def test_digits_are_all_there_once():
    data = digits(partitions=20, seed=3)
    assert data.train_images.shape == (1437, 3, 32, 32)
    assert data.test_images.shape == (360, 3, 32, 32)
    assert data.train_images.dtype == np.float32
    assert data.train_labels.dtype == np.int64
    raw = load_digits()
    images = np.concatenate([data.train_images, data.test_images])
    labels = np.concatenate([data.train_labels, data.test_labels])
    small = (images[:, 0, ::4, ::4].reshape(1797, 64) + 1) * 8
    assert sorted(map(tuple, np.c_[small, labels])) == sorted(
        map(tuple, np.c_[raw.data, raw.target].astype(np.float32))
    )
    assert np.array_equal(images[:, 0], images[:, 2])
    assert np.array_equal(images[:, :, 0, 0], images[:, :, 3, 3])
    assert repr(data) == "Digits(1437 training, 360 held out, 20 clients)"


def test_digits_are_kept_and_cannot_be_changed():
    data = digits(partitions=20, seed=3)
    assert digits(partitions=20, seed=3) is data
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels, data.partitions[0]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_the_held_out_images_do_not_depend_on_the_split():
    one, other = digits(partitions=20, seed=3), digits(partitions=7, alpha=0.1, seed=4)
    assert np.array_equal(one.test_images, other.test_images)
    assert np.array_equal(one.test_labels, other.test_labels)


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_a_partition_holds_every_sample_once_and_none_is_too_small(alpha: float):
    parts = dirichlet_partition(LABELS, 30, alpha, seed=1, min_size=8)
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    assert min(map(len, parts)) >= 8


def test_a_partition_is_its_seed_s():
    one, same, other = (dirichlet_partition(LABELS, 5, 1.0, seed=s) for s in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_small_alpha_separates_the_classes():
    def classes(alpha: float) -> float:
        return float(np.mean([len(np.unique(LABELS[p])) for p in dirichlet_partition(LABELS, 10, alpha, seed=0)]))

    assert classes(100.0) == 10
    assert classes(0.05) < 4


@pytest.mark.parametrize("bad", [{"partitions": 0}, {"alpha": 0.0}, {"alpha": float("inf")}, {"min_size": -1}])
def test_out_of_range(bad: dict):
    with pytest.raises(InvalidParameterError, match=f"{next(iter(bad))}="):
        dirichlet_partition(LABELS, **{"partitions": 2, "alpha": 1.0, "seed": 0, **bad})


def test_more_clients_than_images():
    with pytest.raises(InvalidParameterError, match="2000 partitions of at least 2 need 4000"):
        digits(partitions=2000)
