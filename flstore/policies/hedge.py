"""Fixed-share exponential weights with lazy draws: which of a few experts to follow when the best one may change.

And the price at which several who choose for themselves do not take more than there is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

_SERIOUS = 0.1


class FixedShare:
    """Follows one expert at a time, drawn in proportion to weights that grow with reward.

    With rewards that differ by at most 1, K experts, rate r and drift a, the expected reward over T steps is below that
    of the best sequence of experts with m changes by at most

        ((m + 1) ln K + m ln(1 / a) + (T - 1 - m) ln(1 / (1 - a))) / r + r T / 8

    (M. Herbster and M. Warmuth, Tracking the best expert, Machine Learning 32, 1998; N. Cesa-Bianchi and G. Lugosi,
    Prediction, Learning, and Games, 2006, theorem 5.2). With the best r and a that is ``sqrt(T / 2 * ((m + 1) ln K +
    (T - 1) H(m / (T - 1))))``, H being the binary entropy (corollary 5.1). A prior other than the uniform puts ``ln(1 /
    prior of the best first expert)`` for one ln K.

    The bound is about the weights, so each step's expert must be drawn from them. Drawing anew every time would change
    the expert more often than the weights do; here it stays with the largest probability that still gives every step
    its distribution (a maximal coupling, as in S. Geulen, B. Voecking, M. Winkler, Regret minimization for online
    buffering problems, COLT 2010). One departure: an expert with less than a tenth of the leader's weight is left at
    once, for a lazy draw that fell on it would stay for long. What that can cost is at most the weight of such experts
    in each step.

    Parameters
    ----------
    prior : sequence of float
        The first weights; they sum to 1.
    rate : float
        The learning rate.
    drift : float
        The share of all weight that is dealt out evenly at every step: how probable it is that the best expert changes.
    random : random.Random
        Where draws come from.

    Attributes
    ----------
    weights : list of float
        Positive, summing to 1.
    chosen : int
        The expert that is followed.
    """

    __slots__ = ("_drift", "_random", "_rate", "chosen", "weights")

    def __init__(self, prior: Sequence[float], rate: float, drift: float, random: random.Random) -> None:
        self.weights = list(prior)
        self._rate, self._drift, self._random = rate, drift, random
        self.chosen = self._draw(self.weights)

    def reward(self, rewards: Sequence[float], drift: bool = True) -> bool:
        """Take in what each expert gained in one step; whether another one is followed now.

        Steps in which all gained the same make no difference to the regret and are left out. Without `drift` the step
        corrects an earlier one.
        """
        least = min(rewards)
        if max(rewards) == least:
            return False
        rate, exp = self._rate, math.exp
        grown = [w * exp(rate * (r - least)) for w, r in zip(self.weights, rewards, strict=True)]
        total = sum(grown)
        dealt = self._drift if drift else 0.0
        keep, even = (1 - dealt) / total, dealt / len(grown)
        new = [keep * w + even for w in grown]
        old, self.weights = self.weights, new
        serious = _SERIOUS * max(new)
        lost = old[self.chosen] - new[self.chosen]
        if new[self.chosen] >= serious and (lost <= 0 or self._random.random() * old[self.chosen] >= lost):
            return False
        gained = [max(0.0, n - o) if n >= serious else 0.0 for n, o in zip(new, old, strict=True)]
        before = self.chosen
        self.chosen = self._draw(gained if any(gained) else [n if n >= serious else 0.0 for n in new])
        return self.chosen != before

    def _draw(self, weights: Sequence[float]) -> int:
        left = self._random.random() * sum(weights)
        for i, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return i
        return max(range(len(weights)), key=lambda i: weights[i])


def clearing_price(offers: Sequence[Sequence[tuple[float, float]]]) -> float:
    """The lowest price of all there is (up to 5 %) at which everybody's best choice together takes at most all of it.

    Parameters
    ----------
    offers : sequence of sequence of (float, float)
        For each who chooses, what every choice is worth and takes; one of them takes nothing.

    Returns
    -------
    float
        0 when there is enough.

    Examples
    --------
    >>> clearing_price([[(0.5, 0.6), (0.0, 0.0)], [(0.4, 0.3), (0.0, 0.0)]])
    0.0
    >>> 0.5 <= clearing_price([[(0.5, 1.0), (0.0, 0.0)], [(0.4, 0.3), (0.0, 0.0)]]) < 0.55
    True
    """

    def taken(price: float) -> float:
        return sum(max((worth - price * takes, -takes) for worth, takes in choices)[1] * -1 for choices in offers)

    if taken(0.0) <= 1:
        return 0.0
    low, high = 0.0, 0.01
    while taken(high) > 1:
        low, high = high, 2 * high
    while high > 1.05 * low + 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if taken(middle) > 1 else (low, middle)
    return high
