"""Who holds which samples: ways to split a labelled data set over clients. Pure functions of their arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError, UnknownNameError

SPLITS = ("dirichlet", "shard", "iid")
"""Names that :func:`partition` knows."""

Indices = NDArray[np.int64]


def partition(
    labels: NDArray[Any],
    partitions: int,
    split: str = "dirichlet",
    *,
    alpha: float = 1.0,
    shards: int = 2,
    seed: int = 0,
    min_size: int = 2,
) -> list[Indices]:
    """Split samples over clients by a way that is chosen by name.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        Class of each sample.
    partitions : int
        Number of clients.
    split : {"dirichlet", "shard", "iid"}
        See :func:`dirichlet_partition`, :func:`shard_partition`, :func:`iid_partition`.
    alpha : float
        Of the Dirichlet split alone.
    shards : int
        Of the shard split alone.
    seed : int
        Equal seeds give equal splits.
    min_size : int
        Fewest samples of a partition.

    Returns
    -------
    list of ndarray of int64
        Sorted indices; every sample is in exactly one partition.

    Raises
    ------
    UnknownNameError
        There is no such split.
    InvalidParameterError
        An argument out of range, or too few samples.

    Examples
    --------
    >>> [len(p) for p in partition(np.zeros(10), 5, "iid")]
    [2, 2, 2, 2, 2]
    """
    if split == "dirichlet":
        return dirichlet_partition(labels, partitions, alpha, seed, min_size)
    if split == "shard":
        return shard_partition(labels, partitions, shards, seed, min_size)
    if split == "iid":
        return iid_partition(labels, partitions, seed, min_size)
    raise UnknownNameError.of("split", split, SPLITS)


def dirichlet_partition(
    labels: NDArray[Any], partitions: int, alpha: float, seed: int, min_size: int = 2
) -> list[Indices]:
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
    if not 0 < alpha < np.inf:
        raise InvalidParameterError(f"alpha={alpha} must be positive and finite; 1.0 is a usual one")
    _check(labels, partitions, min_size)
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(partitions)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.rint(np.cumsum(rng.dirichlet(np.full(partitions, alpha)))[:-1] * len(members)).astype(np.int64)
        for part, share in zip(parts, np.split(members, cuts), strict=True):
            part.extend(share.tolist())
    return _finished(parts, min_size)


def shard_partition(
    labels: NDArray[Any], partitions: int, shards: int = 2, seed: int = 0, min_size: int = 2
) -> list[Indices]:
    """Sort samples by class, cut them into ``partitions * shards`` even shards, and give each client `shards` of them.

    With two shards most clients have samples of two classes: the hardest split of the paper that brought FedAvg.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        Class of each sample.
    partitions : int
        Number of clients, at least one.
    shards : int
        Shards that a client gets, at least one.
    seed : int
        Seed of the order within a class and of who gets which shard.
    min_size : int
        Fewest samples of a partition; below it, it takes samples from the largest.

    Returns
    -------
    list of ndarray of int64
        Sorted indices; every sample is in exactly one partition.

    Raises
    ------
    InvalidParameterError
        An argument out of range, or fewer samples than shards.

    References
    ----------
    McMahan, Moore, Ramage, Hampson and Agüera y Arcas, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", AISTATS 2017, section 3.

    Examples
    --------
    >>> [p.tolist() for p in shard_partition(np.array([1, 0, 1, 0]), 2, shards=1, seed=0)]
    [[0, 2], [1, 3]]
    """
    if shards < 1:
        raise InvalidParameterError(f"shards={shards} must be at least 1; 2 is a usual one")
    _check(labels, partitions, max(min_size, shards))
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(labels))
    pieces = np.array_split(shuffled[np.argsort(labels[shuffled], kind="stable")], partitions * shards)
    owners = rng.permutation(partitions * shards) % partitions
    parts: list[list[int]] = [[] for _ in range(partitions)]
    for owner, piece in zip(owners, pieces, strict=True):
        parts[owner].extend(piece.tolist())
    return _finished(parts, min_size)


def iid_partition(labels: NDArray[Any], partitions: int, seed: int = 0, min_size: int = 2) -> list[Indices]:
    """Split samples over clients at random, into parts whose sizes differ by at most one.

    Parameters
    ----------
    labels : ndarray, shape (n,)
        One value a sample; only their number matters.
    partitions : int
        Number of clients, at least one.
    seed : int
        Seed of the order.
    min_size : int
        Fewest samples of a partition.

    Returns
    -------
    list of ndarray of int64
        Sorted indices; every sample is in exactly one partition.

    Raises
    ------
    InvalidParameterError
        An argument out of range, or too few samples.

    Examples
    --------
    >>> [len(p) for p in iid_partition(np.zeros(7), 3)]
    [3, 2, 2]
    """
    _check(labels, partitions, min_size)
    parts = np.array_split(np.random.default_rng(seed).permutation(len(labels)), partitions)
    return [np.sort(part).astype(np.int64) for part in parts]


def _check(labels: NDArray[Any], partitions: int, min_size: int) -> None:
    if partitions < 1 or min_size < 0:
        raise InvalidParameterError(
            f"partitions={partitions}, min_size={min_size}: partitions must be at least 1, min_size not negative"
        )
    if partitions * min_size > len(labels):
        raise InvalidParameterError(
            f"{partitions} partitions of at least {min_size} need {partitions * min_size} samples, there are "
            f"{len(labels)}: ask for fewer partitions"
        )


def _finished(parts: list[list[int]], min_size: int) -> list[Indices]:
    for part in parts:
        while len(part) < min_size:
            part.append(max(parts, key=len).pop())
    return [np.array(sorted(part), dtype=np.int64) for part in parts]
