"""Table 3: hits and misses of each policy on the access pattern of each class of workload, counted by replay.

The trace is the paper's (section 5.5): some clients out of many take part in each round, and what each of them sent is
asked for once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flstore.simulator.studies import client_of, table3_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["client_of", "figure", "measure", "table"]

PAPER_HIT_RATIO = {"P2": 19999 / 20000, "P3": 63 / 64, "P4": 1.0}


def measure(
    clients: int, per_round: int, rounds: int, seeds: list[int], classic_policies: list[str], capacity_updates: int
) -> pd.DataFrame:
    """Replay every class under every policy.

    Parameters
    ----------
    clients, per_round, rounds : int
        The trace.
    seeds : list of int
        One trace each.
    classic_policies : list of str
        Policies to compare with, each filled on demand only (``write-around``, the paper's) and on ingest
        (``write-allocate``, the fair one), with room for `capacity_updates` updates.

    Returns
    -------
    DataFrame
        One row a replay: policy_class, access, policy, fill, capacity_updates, seed, hits, late_hits, misses, total,
        hit_ratio.
    """
    return table3_data(clients, per_round, rounds, seeds, classic_policies, capacity_updates)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Hits, misses and hit ratio by class and policy: the median over the seeds."""
    keys = ["policy_class", "access", "policy", "fill"]
    return data.groupby(keys, sort=False)[["hits", "misses", "total", "hit_ratio"]].median()


def figure(data: pd.DataFrame) -> Figure:
    """Hit ratio by class and policy, single accesses, with the paper's values; one dot a seed."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from style import COLOURS, PAPER

    shown = data[data["access"] == "single"].assign(
        shown=lambda d: d["policy"] + d["fill"].map(lambda f: "" if f == "directed" else f" ({f})")
    )
    order = list(dict.fromkeys(shown["shown"]))
    colours = {name: COLOURS[name.split(" ")[0]] for name in order}
    drawn, axes = plt.subplots(figsize=(8, 4))
    sns.barplot(shown, x="policy_class", y="hit_ratio", hue="shown", palette=colours, errorbar=("pi", 100), ax=axes)
    handles, labels = axes.get_legend_handles_labels()
    for handle, bars, name in zip(handles, axes.containers, order, strict=True):
        for bar in (handle, *bars) if "allocate" in name else ():
            bar.set_hatch("//")
    classes = list(dict.fromkeys(shown["policy_class"]))
    width = 0.8 / len(order)
    for number, name in enumerate(order):
        if "allocate" not in name:
            places = [at + (number - (len(order) - 1) / 2) * width for at in range(len(classes))]
            printed = [PAPER_HIT_RATIO[c] if name == "tailored" else 0.0 for c in classes]
            dots = axes.plot(places, printed, **PAPER)
    axes.set(xlabel="class of access pattern", ylabel="hit ratio", ylim=(-0.03, 1.08))
    axes.set_title("Table 3 as a figure: every access a request (simulated replay)")
    axes.legend([*handles, *dots], [*labels, "paper"], title=None, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn
