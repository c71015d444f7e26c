"""Pictures of how the requests of a store fared; :class:`flstore.plotting.Plots` checks what is given to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import seaborn as sns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Okabe and Ito (2008): colour-blind readers can tell them apart. A class keeps its colour in every picture.
CLASSES = {"P1": "#CC79A7", "P2": "#0072B2", "P3": "#E69F00", "P4": "#009E73"}
_MOST_DOTS = 2000
_MIB = 1 << 20


def latency(requests: pd.DataFrame, system: str, ax: Axes | None = None) -> Axes:
    """Latency of answered requests by workload: a dot a request, the median and the middle 80 %."""
    axes = _axes(ax)
    shown = requests.assign(latency_ms=requests["latency_s"] * 1e3)
    order = shown.groupby("workload")["latency_ms"].median().sort_values().index.tolist()
    where = {"x": "latency_ms", "y": "workload", "order": order, "ax": axes}
    dots = shown.sample(_MOST_DOTS, random_state=0) if len(shown) > _MOST_DOTS else shown
    sns.stripplot(dots, color="0.25", size=2.5, alpha=0.5, legend=False, zorder=1, **where)
    sns.pointplot(
        shown, hue="policy_class", palette=CLASSES, estimator="median", errorbar=("pi", 80), linestyle="none",
        markersize=8, zorder=2, **where,
    )  # fmt: skip
    axes.set(xscale="log", xlabel="latency, ms (measured)", ylabel="", title=f"{system}: latency by workload")
    _legend(axes)
    return axes


def hit_ratio(requests: pd.DataFrame, system: str, window: int, ax: Axes | None = None) -> Axes:
    """Share of objects that were hits, over the last `window` requests of a class, along the requests."""
    axes = _axes(ax)
    counted = requests[["hits", "late_hits", "misses"]].sum(axis=1)
    shown = requests.assign(objects=counted)[counted > 0].reset_index()
    sums = shown.groupby("policy_class")[["hits", "objects"]].rolling(window, min_periods=1).sum()
    shown["hit_ratio"] = (sums["hits"] / sums["objects"]).droplevel(0)
    sns.lineplot(
        shown, x="request", y="hit_ratio", hue="policy_class", palette=CLASSES, errorbar=None, drawstyle="steps-post",
        marker="o", markersize=4, markeredgewidth=0, ax=axes,
    )  # fmt: skip
    over = "" if window == 1 else f", over {window:,} requests"
    axes.set(xlabel="request", ylabel=f"hit ratio{over}", ylim=(-0.03, 1.03), title=f"{system}: hit ratio")
    _legend(axes)
    return axes


def bytes_moved(requests: pd.DataFrame, system: str, ax: Axes | None = None) -> Axes:
    """Bytes fetched for requests from the store or other functions, added up along the requests, by workload."""
    axes = _axes(ax)
    shown = requests.reset_index()
    shown["moved"] = shown.groupby("workload")["bytes_moved"].cumsum() / _MIB
    sns.lineplot(
        shown, x="request", y="moved", hue="workload", palette="colorblind", errorbar=None, drawstyle="steps-post",
        marker="o", markersize=4, markeredgewidth=0, ax=axes,
    )  # fmt: skip
    axes.set(xlabel="request", ylabel="moved so far, MiB", title=f"{system}: bytes moved for requests")
    axes.set_ylim(bottom=0)
    _legend(axes)
    return axes


def cost(priced: pd.DataFrame, system: str, ax: Axes | None = None) -> Axes:
    """Mean cost of a request by workload, from the columns of :func:`flstore.cost.price`."""
    axes = _axes(ax)
    order = priced.groupby("workload")["modelled_cost_usd"].mean().sort_values().index.tolist()
    sns.barplot(
        priced, x="modelled_cost_usd", y="workload", order=order, hue="policy_class", palette=CLASSES, dodge=False,
        errorbar=None, ax=axes,
    )  # fmt: skip
    axes.set(xlabel="mean cost of a request, USD (modelled)", ylabel="", title=f"{system}: cost by workload")
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3))
    _legend(axes)
    return axes


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(figsize=(7, 3.6), layout="constrained")[1] if ax is None else ax


def _legend(axes: Axes) -> None:
    if axes.get_legend() is not None:
        sns.move_legend(axes, "center left", bbox_to_anchor=(1.0, 0.5), title=None, frameon=False)
