"""Real images without a download: scikit-learn's handwritten digits, split over clients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError

HELD_OUT = 360
"""Images that no client trains on."""

CLASSES = 10


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Digits:
    """Images and labels, with the training images of each client. All arrays are read-only.

    Attributes
    ----------
    train_images : ndarray of float32, shape (1437, 3, 32, 32)
        In [-1, 1].
    train_labels : ndarray of int64, shape (1437,)
        The digit, 0 to 9.
    partitions : tuple of ndarray of int64
        Rows of the training arrays, one vector a client.
    test_images, test_labels : ndarray
        The 360 held-out images, likewise.
    """

    train_images: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    partitions: tuple[NDArray[np.int64], ...]
    test_images: NDArray[np.float32]
    test_labels: NDArray[np.int64]

    def __repr__(self) -> str:
        train, test = len(self.train_labels), len(self.test_labels)
        return f"Digits({train} training, {test} held out, {len(self.partitions)} clients)"


@lru_cache(maxsize=4)
def digits(partitions: int = 50, alpha: float = 1.0, seed: int = 0) -> Digits:
    """Load the digits, upscaled to 32 x 32 with three channels, and split them over clients.

    Parameters
    ----------
    partitions : int
        Number of clients.
    alpha : float
        Concentration of the Dirichlet distribution; small values give each client few classes.
    seed : int
        Seed of the split over clients. The held-out images are the same for every seed.

    Returns
    -------
    Digits
        Kept in memory, so that equal arguments give the same object.

    Raises
    ------
    InvalidParameterError
        More clients than the images can serve with two each, or `alpha` not above zero.
    """
    images, labels = _images()
    train, test = images[:-HELD_OUT], images[-HELD_OUT:]
    train_labels, test_labels = labels[:-HELD_OUT], labels[-HELD_OUT:]
    # Batch normalisation cannot train on one image.
    smallest = min(8, max(2, len(train_labels) // max(4 * partitions, 1)))
    parts = dirichlet_partition(train_labels, partitions, alpha, seed, smallest)
    for array in (train_labels, test_labels, *parts):
        array.setflags(write=False)
    return Digits(train, train_labels, tuple(parts), test, test_labels)


def dirichlet_partition(
    labels: NDArray[Any], partitions: int, alpha: float, seed: int, min_size: int = 2
) -> list[NDArray[np.int64]]:
    """Split samples over clients, each class by proportions drawn from a symmetric Dirichlet distribution.

    Partitions that come out below `min_size` take samples from the largest, so that any `alpha` gives a split.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        Class of each sample.
    partitions : int
        Number of clients, at least one.
    alpha : float
        Concentration, above zero: large is even, small is one class a client.
    seed : int
        Seed of the proportions and of the order.
    min_size : int
        Fewest samples of a partition.

    Returns
    -------
    list of ndarray of int64
        Sorted indices; every sample is in exactly one partition.

    Raises
    ------
    InvalidParameterError
        An argument out of range, or too few samples for `partitions` of `min_size`.

    References
    ----------
    Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", 2019.

    Examples
    --------
    >>> [len(p) for p in dirichlet_partition(np.array([0, 0, 1, 1]), 2, alpha=1e6, seed=0)]
    [2, 2]
    """
    if partitions < 1 or min_size < 0 or not 0 < alpha < np.inf:
        raise InvalidParameterError(
            f"partitions={partitions}, alpha={alpha}, min_size={min_size}: partitions must be at least 1, "
            "alpha positive and finite, min_size not negative"
        )
    if partitions * min_size > len(labels):
        raise InvalidParameterError(
            f"{partitions} partitions of at least {min_size} need {partitions * min_size} samples, there are "
            f"{len(labels)}: ask for fewer partitions"
        )
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(partitions)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(rng.dirichlet(np.full(partitions, alpha)))[:-1] * len(members)).astype(np.int64)
        for part, share in zip(parts, np.split(members, cuts), strict=True):
            part.extend(share.tolist())
    _top_up(parts, min_size)
    return [np.array(sorted(part), dtype=np.int64) for part in parts]


def _top_up(parts: list[list[int]], min_size: int) -> None:
    for part in parts:
        while len(part) < min_size:
            part.append(max(parts, key=len).pop())


@lru_cache(maxsize=1)
def _images() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """All images in an order that does not depend on any seed, so that the held-out ones never change."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.random.default_rng(20250512).permutation(len(raw.target))
    small = raw.images[order].astype(np.float32) / 8 - 1
    large = small.repeat(4, axis=1).repeat(4, axis=2)
    images = np.repeat(large[:, None], 3, axis=1)
    images.setflags(write=False)
    return images, raw.target[order].astype(np.int64)
