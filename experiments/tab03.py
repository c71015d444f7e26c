"""Table 3: hits and misses of each policy on the access pattern of each class of workload, counted by replay.

The trace is the paper's (section 5.5): some clients out of many take part in each round, and what each of them sent is
asked for once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flstore.simulator import participation_trace, replay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER_PARTICIPATIONS = 64
"""Rows of the paper's P3 trace."""

PAPER_HIT_RATIO = {"P2": 19999 / 20000, "P3": 63 / 64, "P4": 1.0}


def client_of(trace: pd.DataFrame, participations: int = PAPER_PARTICIPATIONS) -> int:
    """The client of `trace` whose number of rounds is nearest to `participations` (the lowest id of several).

    Examples
    --------
    >>> client_of(pd.DataFrame({"round": [1, 2, 1], "client": [4, 4, 9]}), participations=1)
    9
    """
    counts = trace.groupby("client").size().sort_index()
    return int(counts.index[int((counts - participations).abs().argmin())])


def accesses(trace: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The requests of each class, by (class, granularity).

    ``single`` makes every access a request of its own; ``round`` makes the accesses of a round one request, which is
    how a workload really asks.
    """
    one = trace[trace["client"] == client_of(trace)]
    rounds = trace["round"].to_numpy()
    return {
        ("P2", "single"): trace.assign(workload="clustering"),
        ("P2", "round"): trace.assign(workload="clustering", request=rounds),
        ("P3", "single"): one.assign(workload="lineage"),
        ("P4", "single"): trace.assign(workload="hyperparameters"),
        ("P4", "round"): trace.assign(workload="hyperparameters", request=rounds),
    }


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
    runs: list[tuple[str, str, int | None]] = [("tailored", "write-around", None)]
    runs += [(p, fill, capacity_updates) for p in classic_policies for fill in ("write-around", "write-allocate")]
    rows = []
    for seed in seeds:
        trace = participation_trace(clients, per_round, rounds, seed)
        for (policy_class, access), requests in accesses(trace).items():
            for policy, fill, capacity in runs:
                found = replay(requests, policy, capacity_updates=capacity, fill=fill, participation=trace)
                rows.append(
                    {
                        "policy_class": policy_class,
                        "access": access,
                        "policy": policy,
                        "fill": "directed" if policy == "tailored" else fill,
                        "capacity_updates": capacity,
                        "seed": seed,
                        "hits": found.hits,
                        "late_hits": found.late_hits,
                        "misses": found.misses,
                        "total": found.total,
                        "hit_ratio": found.hit_ratio,
                    }
                )
    return pd.DataFrame(rows).astype({"capacity_updates": "Int64"})


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
