"""Krum scores and a robust outlier score, from inner products alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flstore.workloads._gram import Matrix, squared_distances


def most_byzantine(clients: int) -> int:
    """The largest number f of faulty clients that Krum tolerates among `clients`: 2 f + 2 < n."""
    return max(0, (clients - 3) // 2)


def krum_scores(products: Matrix, byzantine: int) -> Matrix:
    """Sum of squared distances of every client to its n - f - 2 nearest others (at least one), shape (n,).

    Blanchard, El Mhamdi, Guerraoui, Stainer: Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent.
    NeurIPS 2017, section 4.
    """
    count = len(products)
    if count < 2:
        return np.zeros(count)
    distances = squared_distances(products)
    np.fill_diagonal(distances, np.inf)
    nearest = max(1, count - byzantine - 2)
    scores: Matrix = np.sort(distances, axis=1)[:, :nearest].sum(axis=1)
    return scores


def cosine_to_centre(products: Matrix, selected: NDArray[np.intp]) -> Matrix:
    """Cosine of every client to the mean of the selected others, shape (n,).

    A client is left out of the mean that it is compared with: in many dimensions a vector is similar to any mean that
    it is part of. NaN where nobody else is selected, 0 with a zero vector.
    """
    weights = np.zeros((len(products), len(products)))
    weights[:, selected] = 1.0
    np.fill_diagonal(weights, 0.0)
    inner = (weights * products).sum(axis=1)
    centre = np.einsum("ij,jk,ik->i", weights, products, weights)
    lengths = np.sqrt(np.maximum(centre, 0.0) * products.diagonal())
    with np.errstate(invalid="ignore", divide="ignore"):
        similarity: Matrix = np.where(lengths > 0, np.clip(inner / lengths, -1.0, 1.0), 0.0)
    similarity[~weights.any(axis=1)] = np.nan
    return similarity


def robust_z(values: Matrix, least_unit: float, most_unit: float = np.inf) -> Matrix:
    """Distance from the median in units of 1.4826 MAD, the modified z-score of Iglewicz and Hoaglin (1993).

    The unit is bounded from below, because among nearly equal clients a MAD near zero would make outliers of all, and
    may be bounded from above, because faulty clients widen the MAD themselves.
    """
    middle = np.median(values)
    scale = float(np.clip(1.4826 * np.median(np.abs(values - middle)), least_unit, most_unit))
    scores: Matrix = (values - middle) / scale
    return scores
