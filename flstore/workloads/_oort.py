"""Oort's guided choice of participants, from what clients reported of their own training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

CLIP = 0.95
"""Statistical utilities above this quantile count as that quantile: outliers are often corrupted."""
CUT_OFF = 0.95
"""Clients join the draw from this share of the last utility that a strict ranking would admit."""
FIRST_EXPLORATION, DECAY, LEAST_EXPLORATION = 0.9, 0.98, 0.2
PREFERRED_QUANTILE = 0.3


@dataclass(frozen=True, slots=True)
class Report:
    """What a client last told. Durations are NaN where they are not known."""

    client: str
    round: int
    examples: float
    loss: float
    duration_s: float

    @property
    def statistical(self) -> float:
        """|B| sqrt(mean of squared losses), with the mean loss for the loss of every example (at most the true one)."""
        return self.examples * self.loss


def exploration_at(round: int) -> float:
    """The share of unexplored clients in a round (counted from 1): section 4.4's schedule."""
    return max(LEAST_EXPLORATION, FIRST_EXPLORATION * DECAY ** max(0, round - 1))


def preferred_duration(reports: Sequence[Report]) -> float:
    """T where none is given: the 30 % quantile of the durations, where the published pacer starts; infinite of none."""
    known = sorted(r.duration_s for r in reports if not math.isnan(r.duration_s))
    return known[min(int(PREFERRED_QUANTILE * len(known)), len(known) - 1)] if known else math.inf


def utilities(reports: Sequence[Report], now: int, preferred_s: float, penalty: float) -> Values:
    """Algorithm 1, lines 9 to 12: clipped statistical utility in [0, 1], plus staleness, times the penalty of the slow.

    Parameters
    ----------
    reports : sequence of Report, length n
    now : int
        The round to choose for.
    preferred_s : float
        T.
    penalty : float
        alpha.

    Returns
    -------
    ndarray of float64, shape (n,)
    """
    raw = np.array([report.statistical for report in reports])
    ordered = np.sort(raw)
    raw = np.minimum(raw, ordered[min(int(CLIP * len(raw)), len(raw) - 1)])
    spread = float(ordered[-1] - ordered[0])
    scaled = (raw - ordered[0]) / spread if spread > 0 else np.ones(len(raw))
    last = np.array([max(1, report.round) for report in reports])
    score: Values = scaled + np.sqrt(0.1 * math.log(max(1, now)) / last)
    slow = np.array([report.duration_s > preferred_s for report in reports])  # what is not known is not slow
    factor = np.array([preferred_s / r.duration_s if s else 1.0 for r, s in zip(reports, slow, strict=True)])
    return score * factor**penalty


def exploit(score: Values, count: int, random: np.random.Generator) -> list[int]:
    """Draw `count` of the clients whose utility is near that of the best `count`, by utility (lines 14 to 16)."""
    if not count:
        return []
    order = np.argsort(-score, kind="stable")
    admitted = order[score[order] >= CUT_OFF * score[order[max(0, count - 1)]]]
    return _draw(admitted, score[admitted], count, random)


def explore(durations_s: Values, count: int, random: np.random.Generator) -> list[int]:
    """Draw `count` of the unexplored, the fast ones more often (line 18); whose speed is not known is as the mean."""
    known = ~np.isnan(durations_s)
    speed = np.ones(len(durations_s))
    if known.any():
        speed[known] = 1.0 / np.maximum(durations_s[known], 1e-9)
        speed[~known] = speed[known].mean()
    return _draw(np.arange(len(speed)), speed, count, random)


def _draw(of: NDArray[np.intp], weight: Values, count: int, random: np.random.Generator) -> list[int]:
    if not count:
        return []
    share = weight + 1e-12 * max(1.0, float(weight.max(initial=0.0)))  # all may be zero
    found = random.choice(of, count, replace=False, p=share / share.sum())
    return [int(i) for i in found]
