"""Durations: several ways of doing a thing, in turn, so that what disturbs the machine disturbs all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements, in their own unit."""

    median: float
    low: float
    high: float
    repetitions: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one measurement."""
        low, median, high = (float(v) for v in np.percentile(values, [25, 50, 75]))
        return cls(median, low, high, len(values))


def interleaved(ways: Mapping[str, Callable[[], Any]], repetitions: int, warm_up: int = 1) -> dict[str, Spread]:
    """Time each of `ways` in turn, `repetitions` times, after `warm_up` turns that do not count.

    Parameters
    ----------
    ways : dict of str to callable
        What to time; results are thrown away.
    repetitions : int
        Turns that count.
    warm_up : int
        Turns before them.

    Returns
    -------
    dict of str to Spread
        Seconds, by the names of `ways`.

    Examples
    --------
    >>> spreads = interleaved({"sum": lambda: sum(range(100)), "max": lambda: max(range(100))}, repetitions=3)
    >>> spreads["sum"].repetitions
    3
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    gc.collect()
    for turn in range(-warm_up, repetitions):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            took = time.perf_counter() - began
            if turn >= 0:
                seconds[name].append(took)
    return {name: Spread.of(values) for name, values in seconds.items()}
