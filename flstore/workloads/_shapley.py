"""Shapley values: exact over all coalitions, or estimated over random orders of the players.

Shapley: A Value for n-Person Games. 1953. The estimate and its truncation: Ghorbani, Zou: Data Shapley: Equitable
Valuation of Data for Machine Learning. ICML 2019, algorithm 1 (TMC-Shapley).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shapley:
    """Values (n,), their standard errors (n,) (zero where they are exact), and the orders that were drawn (or 0)."""

    values: Vector
    standard_errors: Vector
    permutations: int


def exact(worths: Vector) -> Shapley:
    """Shapley values from the worth of every coalition.

    Parameters
    ----------
    worths : ndarray of float64, shape (2 ** n,)
        Worth of the coalition whose members are the bits of the index.
    """
    count = len(worths).bit_length() - 1
    coalitions = np.arange(len(worths))
    sizes = sum((coalitions >> player) & 1 for player in range(count)) if count else np.zeros(1, int)
    share = [math.factorial(s) * math.factorial(count - s - 1) / math.factorial(count) for s in range(count)]
    values = np.empty(count)
    for player in range(count):
        without = coalitions[(coalitions >> player) & 1 == 0]
        gain = worths[without | 1 << player] - worths[without]
        values[player] = (np.take(share, np.take(sizes, without)) * gain).sum()
    return Shapley(values, np.zeros(count), 0)


def sampled(
    players: int, worth: Callable[[frozenset[int]], float], permutations: int, tolerance: float, seed: int
) -> Shapley:
    """Estimated Shapley values: mean marginal worth over random orders.

    An order is cut off where its coalition is worth within `tolerance` of all players together; those who come later
    add nothing. That can shift a value by `tolerance` at most, which the standard error does not contain.

    Parameters
    ----------
    players : int
        How many there are, at least one.
    worth : callable
        Worth of a coalition, asked once for each.
    permutations : int
        Orders to draw, at least two.
    tolerance : float
        0 cuts nothing off.
    seed : int
        Of the orders.
    """
    ask = functools.cache(worth)
    random = np.random.default_rng(seed)
    everyone = ask(frozenset(range(players)))
    gains = np.zeros((permutations, players))
    for order in range(permutations):
        coalition: frozenset[int] = frozenset()
        for player in random.permutation(players).tolist():
            before = ask(coalition)
            if tolerance > 0 and abs(everyone - before) <= tolerance:
                break
            coalition |= {player}
            gains[order, player] = ask(coalition) - before
    return estimate(gains)


def estimate(gains: Vector) -> Shapley:
    """Shapley values from what each player added in some random orders, shape (orders, n)."""
    errors = gains.std(axis=0, ddof=1) / np.sqrt(len(gains))
    return Shapley(gains.mean(axis=0), errors, len(gains))
