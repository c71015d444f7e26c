"""Figures of what :mod:`flstore.simulator.studies` found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import seaborn as sns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAPER_HIT_RATIO = {"P2": 19999 / 20000, "P3": 63 / 64, "P4": 1.0}
"""Table 3 of the paper; its classic policies hit nothing."""


def table3(data: pd.DataFrame) -> Figure:
    """Hit ratio by class and policy for single accesses, with the paper's values."""
    shown = data[data["access"] == "single"].assign(way=_ways(data))
    order = list(dict.fromkeys(shown["way"]))
    drawn, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    sns.barplot(shown, x="policy_class", y="hit_ratio", hue="way", hue_order=order, palette="colorblind",
                errorbar=("pi", 100), ax=axes)  # fmt: skip
    classes = list(dict.fromkeys(shown["policy_class"]))
    width = 0.8 / len(order)
    for number, name in enumerate(order):
        if "allocate" not in name and "belady" not in name:
            places = [at + (number - (len(order) - 1) / 2) * width for at in range(len(classes))]
            printed = [PAPER_HIT_RATIO[c] if name == "tailored" else 0.0 for c in classes]
            axes.plot(places, printed, "kD", label="paper" if number == 0 else None)
    axes.set(xlabel="class of access pattern", ylabel="hit ratio", ylim=(-0.03, 1.08))
    axes.set_title("Table 3: every access a request (simulated replay)")
    axes.legend(title=None, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def figure10(data: pd.DataFrame) -> Figure:
    """Latency and cost by workload and policy, both modelled, on logarithmic axes."""
    drawn, panels = plt.subplots(2, 1, figsize=(10, 7), layout="constrained", sharex=True)
    labels = {"modelled_latency_s": "latency of a request, s", "modelled_cost_usd": "cost of a request, USD"}
    for axes, (column, label) in zip(panels, labels.items(), strict=True):
        sns.barplot(data, x="workload", y=column, hue="policy", palette="colorblind", ax=axes, legend=axes is panels[0])
        axes.set(xlabel="", ylabel=f"modelled {label}", yscale="log")
        axes.tick_params(axis="x", rotation=30)
    panels[0].legend(title=None, loc="center left", bbox_to_anchor=(1.0, 0.5))
    panels[0].set_title("Figure 10: latency and cost by caching policy (simulated replay)")
    return drawn


def capacity_curve(data: pd.DataFrame) -> Figure:
    """Hit ratio against capacity, a line for each policy and way of filling."""
    drawn, axes = plt.subplots(figsize=(8, 4.2), layout="constrained")
    shown = data.assign(way=_ways(data), capacity=data["capacity_updates"].astype(float))
    sns.lineplot(shown, x="capacity", y="hit_ratio", hue="way", style="way", markers=True, dashes=False, ax=axes)
    axes.set(xlabel="capacity, updates", ylabel="hit ratio", ylim=(-0.03, 1.03), title=str(data["trace"].iloc[0]))
    axes.legend(title=None, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def lead_time(data: pd.DataFrame) -> Figure:
    """Shares of late hits and of hits against the lead of a prefetch."""
    drawn, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    long = data.melt(["policy", "lead"], ["hit_ratio", "late_ratio"], var_name="share of", value_name="share")
    long = long.replace({"share of": {"hit_ratio": "hits", "late_ratio": "late hits"}})
    sns.lineplot(long, x="lead", y="share", hue="policy", style="share of", markers=True, ax=axes)
    axes.axvline(1.0, color="0.7", linewidth=1, zorder=0)
    axes.set(xlabel="time between requests / time to fetch a round", ylabel="share of accesses", ylim=(-0.03, 1.03))
    axes.legend(title=None, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def _ways(data: pd.DataFrame) -> pd.Series:
    fill = data["fill"].map(lambda f: "" if f in ("", "directed") else f" ({f})")
    return data["policy"] + fill
