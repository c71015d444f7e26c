"""Pictures of what a replay found."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from flstore.simulator import Outcome

POINTS = 200
COLOURS = {"hit": "#0072B2", "late": "#E69F00", "miss": "#D55E00"}


def outcomes(outcome: Outcome, ax: Axes | None = None) -> Axes:
    """Shares of hits, late hits and misses along the trace, in up to 200 stretches of equal length."""
    codes = outcome.frame["outcome"].cat.codes.to_numpy()
    axes = _axes(ax)
    stretches = np.array_split(codes, min(POINTS, max(1, len(codes))))
    ends = np.cumsum([len(s) for s in stretches])
    shares = [[float((s == code).mean()) if len(s) else 0.0 for s in stretches] for code in range(3)]
    axes.stackplot(ends, shares, labels=list(COLOURS), colors=list(COLOURS.values()), step="pre")
    axes.set(
        xlabel="accesses", ylabel="share", ylim=(0, 1), title=f"{outcome.policy}: hit ratio {outcome.hit_ratio:.2%}"
    )
    axes.legend(loc="lower right")
    return axes


def latency(outcome: Outcome, ax: Axes | None = None) -> Axes:
    """How many requests were answered within so many modelled seconds."""
    assert outcome.requests is not None
    axes = _axes(ax)
    seconds = np.sort(outcome.requests["latency_s"].to_numpy())
    axes.step(seconds, np.arange(1, len(seconds) + 1) / max(1, len(seconds)), where="post", color=COLOURS["hit"])
    axes.set(xlabel="modelled latency, s", ylabel="share of requests", ylim=(0, 1.02), title=outcome.policy)
    return axes


def resident(outcome: Outcome, ax: Axes | None = None) -> Axes:
    """Logical bytes held after each request."""
    axes = _axes(ax)
    if outcome.resident is not None:
        held = outcome.resident["resident_bytes"]
        axes.step(held.index, held.to_numpy(), where="post", color=COLOURS["hit"])
    axes.set(xlabel="request", ylabel="bytes held", title=outcome.policy)
    axes.set_ylim(bottom=0)
    return axes


PLOTS: dict[str, Callable[[Any, Any], Any]] = {"outcomes": outcomes, "latency": latency, "resident": resident}


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(7, 3.2), layout="constrained")[1]
