"""Appendix D: how large the models of cross-device federated learning are, and what of them fits a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from flstore.federated.zoo import footprints

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER_MEAN_MB = 161.0


def measure(memory_gb: float, per_round: int, window: int) -> pd.DataFrame:
    """What :func:`flstore.federated.zoo.footprints` says of functions with `memory_gb` (10^9 bytes)."""
    return footprints(int(memory_gb * 10**9), per_round, window)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """The models with their sizes in MB, and their mean."""
    shown = data.assign(size_mb=data["bytes"] / 1e6).set_index("model")
    shown = shown[["family", "source", "parameters", "size_mb", "updates_fit", "rounds_fit", "window_functions"]]
    shown.loc["mean", ["parameters", "size_mb"]] = shown[["parameters", "size_mb"]].mean()
    return shown.round({"size_mb": 1})


def figure(data: pd.DataFrame) -> Figure:
    """Sizes on a logarithmic scale, how many updates one function caches, and both means."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from style import COLOURS, PAPER

    shown = data.assign(size_mb=data["bytes"] / 1e6)
    sources = list(dict.fromkeys(shown["source"].sort_values()))
    palette = dict(zip(sources, [*list(COLOURS.values())[:4], COLOURS["belady"]], strict=False))
    drawn, axes = plt.subplots(figsize=(8, 7))
    mean = shown["size_mb"].mean()
    axes.axvline(mean, color=COLOURS["lru"], linestyle="--", label=f"our mean, {mean:.0f} MB")
    axes.axvline(PAPER_MEAN_MB, color=PAPER["color"], linestyle=":", label=f"paper's mean, {PAPER_MEAN_MB:.0f} MB")
    look: Any = {"hue_order": sources, "palette": palette, "s": 60, "zorder": 3}
    sns.scatterplot(shown, x="size_mb", y="model", hue="source", ax=axes, **look)
    for row, (size, fit) in enumerate(zip(shown["size_mb"], shown["updates_fit"], strict=True)):
        place: Any = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": "small"}
        axes.annotate(f"{fit:,}", (size, row), bbox={"fc": "white", "ec": "none", "pad": 0.5}, **place)
    axes.set_xscale("log")
    axes.grid(axis="y", alpha=0.4)
    axes.set(xlabel="size of an update (MB); beside it: updates that one function caches", ylabel="")
    axes.set_title("Appendix D: footprints of 23 models (measured)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn
