"""Section 5.6: what the Request Tracker and the Cache Engine's index take, measured.

What is counted is said in :mod:`flstore.testing.overheads`. Memory is what Python allocated; times are processor times,
so that other work on the machine does not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flstore.testing.overheads import PARTS, allocated_bytes, make, operation_seconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER_MB = {"tracker": {1000: 0.19, 100_000: 20.3}, "index": {1000: 0.6, 100_000: 63.2}}
PAPER_MS = 1.0
"""The paper: looking up, using and removing an entry take less than this."""


def measure(requests: list[int]) -> pd.DataFrame:
    """Make both with so many concurrent requests each, and time operations on them one by one.

    Parameters
    ----------
    requests : list of int
        Requests that are open at the same time; of the index, as many objects.

    Returns
    -------
    DataFrame
        One row a part, number and operation: part, requests, allocated_mb (of the part), operation, times, mean_us,
        median_us, p99_us, worst_us.
    """
    rows: list[dict[str, Any]] = []
    for count in requests:
        for part in PARTS:
            fixed = {"part": part, "requests": count, "allocated_mb": allocated_bytes(part, count) / 1e6}
            for operation, seconds in operation_seconds(part, make(part, count)).items():
                median, p99, worst = (float(v) * 1e6 for v in np.percentile(seconds, [50, 99, 100]))
                times = {"times": len(seconds), "mean_us": 1e6 * float(np.mean(seconds)), "median_us": median}
                rows.append({**fixed, "operation": operation, **times, "p99_us": p99, "worst_us": worst})
    return pd.DataFrame(rows)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """As measured, one row an operation."""
    return data.set_index(["part", "requests", "operation"]).round(3)


def figure(data: pd.DataFrame) -> Figure:
    """Memory by requests, with the paper's values, and times of an operation with the paper's bound."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from style import COLOURS, PAPER

    colours = {"tracker": COLOURS["FLStore"], "index": COLOURS["lru"]}
    drawn, (left, right) = plt.subplots(1, 2, figsize=(14, 4.2), layout="constrained")
    memory = data.drop_duplicates(["part", "requests"])
    for part, colour in colours.items():
        ours = memory[memory["part"] == part]
        left.plot(ours["requests"], ours["allocated_mb"], marker="o", color=colour, label=part)
        printed = PAPER_MB[part]
        left.plot(list(printed), list(printed.values()), **{**PAPER, "color": colour, "label": f"paper, {part}"})
    left.set(title="memory", xlabel="concurrent requests", ylabel="MB allocated", xscale="log", yscale="log")
    left.legend()
    largest = data[data["requests"] == data["requests"].max()]
    named = largest.assign(what=largest["part"] + ": " + largest["operation"])
    for column, marker in {"median_us": "o", "p99_us": "s", "worst_us": "^"}.items():
        label = {"median_us": "median", "p99_us": "99th percentile", "worst_us": "worst"}[column]
        sns.scatterplot(
            named, x=column, y="what", hue="part", palette=colours, marker=marker, s=60, ax=right, legend=False
        )
        right.plot([], [], marker=marker, linestyle="none", color="grey", label=label)
    right.axvline(1e3 * PAPER_MS, color="black", linestyle="--", linewidth=1, label="paper: under 1 ms")
    right.set(title=f"an operation, {largest['requests'].iloc[0]:,} requests", xlabel="us", ylabel="", xscale="log")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    drawn.suptitle("Overheads of the Request Tracker and the Cache Engine (measured)")
    return drawn
