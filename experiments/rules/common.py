"""What rules are made of: what one is, and when a number counts as the printed one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from experiments.claims import Claim, Finding, Verdict

TOLERANCE_POINTS = 5.0
"""Percentages count as reproduced within this many percentage points, and within what is left to 100."""

TOLERANCE_TOTAL = 0.10
"""A trace counts as the paper's when its number of accesses is within this share of it."""

TOLERANCE_SHARE = 0.02
"""Sums, prices and sizes that are computed from printed inputs count as reproduced within this share of them."""

Judge = Callable[[Claim, pd.DataFrame], Finding]


@dataclass(frozen=True, slots=True)
class Rule:
    """Which experiment's ``data.csv`` decides, and how."""

    source: str
    judge: Judge


def points(printed: float) -> float:
    """Percentage points within which a percentage counts as reproduced.

    99.9 % and 95 % are not the same: what is left of a cost is 50 times as much. So the tolerance is no larger than
    what is left.

    Examples
    --------
    >>> points(50.75), round(points(99.9), 2)
    (5.0, 0.1)
    """
    return min(TOLERANCE_POINTS, 100 - printed)


def percentage(found: float, printed: float) -> Verdict:
    """A reduction in percent, where more is better."""
    return number(found, printed, points(printed))


def against_both(found: float, strong: float, printed: float) -> Verdict:
    """A reduction against a baseline like the paper's; whether it exceeds, the one against the strong baseline says.

    A slow baseline makes any reduction large, which is no merit.

    Examples
    --------
    >>> [str(against_both(99.0, strong, 82.0)) for strong in (95.0, 81.0, 70.0)]
    ['exceeded', 'reproduced', 'differs']
    """
    verdict = percentage(found, printed)
    return percentage(strong, printed) if verdict is Verdict.EXCEEDED else verdict


def number(found: float, printed: float, tolerance: float, *, higher_is_better: bool = True) -> Verdict:
    """Within `tolerance` of what is printed, better, or worse."""
    if abs(found - printed) <= tolerance + 1e-9:
        return Verdict.REPRODUCED
    return Verdict.EXCEEDED if (found > printed) == higher_is_better else Verdict.DIFFERS


def near(found: float, printed: float, tolerance: float) -> Verdict:
    """A quantity of which neither more nor less is better."""
    return Verdict.REPRODUCED if abs(found - printed) <= tolerance + 1e-9 else Verdict.DIFFERS


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """One verdict of several: differs when one does, exceeded when one is and none differs."""
    found = set(verdicts)
    return next(v for v in (Verdict.DIFFERS, Verdict.EXCEEDED, Verdict.REPRODUCED) if v in found)


def allowed(printed: float, both: bool = False) -> str:
    """The tolerance of a percentage in words, and whether the strong baseline decides on what exceeds it."""
    more = "; where it is more, the strong baseline decides" if both else ""
    return f"within {points(printed):.3g} points counts as reproduced{more}"
