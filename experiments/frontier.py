"""Cost against latency for every system and policy, modelled: who is beaten in both, and by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flstore.simulator.frontier import CLAIRVOYANT, frontier

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measure(
    clients: int,
    per_round: int,
    rounds: int,
    seed: int,
    model: str,
    policies: list[str],
    rounds_of_memory: list[float],
    link: str,
) -> pd.DataFrame:
    """What :func:`flstore.simulator.frontier.frontier` finds."""
    return frontier(clients, per_round, rounds, seed, model, policies, rounds_of_memory, link)


def named(data: pd.DataFrame) -> pd.Series:
    """What a row is called: the policy with its way of filling, or the system."""
    ways = data["policy"] + data["fill"].map(lambda fill: f" ({fill})" if fill else "")
    return ways.where(data["policy"] != "", data["system"])


def table(data: pd.DataFrame) -> pd.DataFrame:
    """The frontier: the cheapest first."""
    columns = ["memory_rounds", "functions", "hit_ratio", "modelled_latency_s", "modelled_total_usd"]
    shown = data[data["on_frontier"]].assign(what=named).sort_values("modelled_total_usd")
    return shown.set_index("what")[columns]


def figure(data: pd.DataFrame) -> Figure:
    """Total cost of a request against its latency, on logarithmic axes; ringed what is on the frontier."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    shown = data.assign(what=named)
    order = list(dict.fromkeys(shown["what"]))
    colours = dict(zip(order, sns.color_palette("colorblind", len(order)), strict=True))
    markers = {what: "oXsDP^v*"[number % 8] for number, what in enumerate(order)}
    drawn, panels = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    for axes, part in zip(panels, (shown, shown[shown["system"] == "FLStore"]), strict=True):
        for what, rows in part.groupby("what", sort=False):
            look = {"color": colours[what], "marker": markers[what], "linewidth": 0.8, "markersize": 7}
            clairvoyant = rows["policy"].isin(CLAIRVOYANT).all()
            look |= {"fillstyle": "none" if clairvoyant else "full", "label": what if axes is panels[0] else None}
            axes.plot(rows["modelled_latency_s"], 1e3 * rows["modelled_total_usd"], **look)
        best = part[part["on_frontier"]]
        ring = {"s": 160, "facecolors": "none", "edgecolors": "black", "linewidths": 1.2}
        label = "on the frontier" if axes is panels[0] else None
        axes.scatter(best["modelled_latency_s"], 1e3 * best["modelled_total_usd"], label=label, **ring)
        axes.set(xlabel="modelled latency of a request, s", ylabel="modelled total cost of a request, mUSD")
    panels[0].set(xscale="log", yscale="log", title="systems and policies")
    panels[1].set(title="policies on FLStore (a line joins sizes of memory)")
    drawn.legend(loc="outside right center", fontsize=8)
    drawn.suptitle("Cost against latency (modelled): several workloads on each round, one client's lineage")
    return drawn
