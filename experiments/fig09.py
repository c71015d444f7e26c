"""Figure 9: FLStore and its variant with derived state against an aggregator with an in-memory cache, measured.

Cache-Agg has a real Redis that holds the whole run, ObjStore-Agg a real S3 server; both are on this machine, so that
what a network would add is left out. Costs are modelled from the same requests.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pandas as pd

from flstore.cost import price

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OURS, DERIVED, CACHE, OBJECTS = "FLStore", "FLStore, derived", "Cache-Agg", "ObjStore-Agg"
CELL = ["model", "workload", "round", "ask"]
BUCKET = "flstore"


def measure(
    models: list[str],
    workloads: list[str],
    rounds: int,
    per_round: int,
    asks: int,
    examples: int,
    functions: int,
    recordings: str,
) -> pd.DataFrame:
    """Give recorded rounds to four systems and ask each for the same, in turns.

    ``FLStore`` computes nothing ahead: what it gains is the path of the data alone. ``FLStore, derived`` does, and
    each of its requests is charged a share of the processor seconds that this took, in ``ahead_s`` and in its cost.

    Parameters
    ----------
    models, workloads : list of str
        Of the paper's; every workload is asked about every round.
    rounds, per_round, asks : int
        Rounds, updates in each, and how often the same is asked.
    examples : int
        Held-out images that models are evaluated on, at most 360.
    functions : int
        Cache functions of each FLStore.
    recordings : str
        Folder of the recorded runs.

    Returns
    -------
    DataFrame
        One row a request and system: system, model, workload, round, ask, latency_s, queue_s, fetch_s, compute_s, hits,
        late_hits, misses, bytes_moved, operations, memory_bytes, derived, answers_equal, ahead_s, link,
        modelled_latency_s and modelled_cost_usd.
    """
    data = pd.concat([_of(m, workloads, rounds, per_round, asks, examples, functions, recordings) for m in models])
    data = data.reset_index(drop=True)
    plain = data[data["system"] == OURS].set_index(CELL)["ahead_s"]  # what taking a round in costs without it
    more = data["ahead_s"] - plain.reindex(pd.MultiIndex.from_frame(data[CELL])).to_numpy()
    data["ahead_s"] = more.where(data["system"] == DERIVED, 0.0).clip(lower=0.0)
    return data.join(_modelled(data))


def _of(
    model: str,
    workloads: list[str],
    rounds: int,
    per_round: int,
    asks: int,
    examples: int,
    functions: int,
    recordings: str,
) -> pd.DataFrame:
    from recordings import rounds_of

    from flstore import FLStore
    from flstore.baselines import CacheAgg, ObjStoreAgg
    from flstore.testing.comparing import EVALUATE, compared
    from flstore.testing.rounds import task_of
    from flstore.testing.services import rclone_s3, redis_server

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(redis_server(folder))  # says what to install when there is none
        s3 = stack.enter_context(rclone_s3(folder))
        s3.create_bucket(BUCKET)
        options: dict[str, Any] = {"storage_options": s3.storage_options}
        ours: dict[str, Any] = {"functions": functions, "model": model, **options}
        systems: dict[str, Any] = {
            OURS: stack.enter_context(FLStore.local(root=f"s3://{BUCKET}/ours", derive=False, **ours)),
            DERIVED: stack.enter_context(FLStore.local(root=f"s3://{BUCKET}/derived", **ours)),
            CACHE: stack.enter_context(CacheAgg(redis.url)),
            OBJECTS: stack.enter_context(ObjStoreAgg(f"s3://{BUCKET}/ours", **options)),
        }
        evaluated = EVALUATE.intersection(workloads)
        for system in systems.values() if evaluated else ():
            system.task(**vars(task_of(model, examples, folder)))
        read = rounds_of(recordings, model, rounds, per_round)
        rows = list(
            compared(systems, read, workloads, asks, readers=(OBJECTS,), warm="inference" if evaluated else None)
        )
    return pd.DataFrame(rows).assign(model=model)


def _modelled(data: pd.DataFrame) -> pd.DataFrame:
    """Seconds and dollars over the link of each system; what is computed ahead is billed with the request."""
    billed = data.assign(system=data["system"].replace({DERIVED: OURS}), compute_s=data["compute_s"] + data["ahead_s"])
    priced = price(billed)
    # It had been computed before anybody asked: billed, but not waited for.
    latency = priced["modelled_latency_s"] - data["ahead_s"]
    return priced[["link", "modelled_cost_usd"]].assign(modelled_latency_s=latency)


def reductions(data: pd.DataFrame, ours: str, baseline: str, column: str = "latency_s") -> pd.Series:
    """By how much each request to `ours` is below the same one to the baseline, as a share."""
    values = data.pivot(index=CELL, columns="system", values=column)
    return 1 - values[ours] / values[baseline]


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Median latency in milliseconds by model and workload, and the mean reductions against Cache-Agg in percent."""
    medians = data.pivot_table(index=["model", "workload"], columns="system", values="latency_s", aggfunc="median")
    less = {
        f"{name} below {CACHE}, %": 100 * reductions(data, name, CACHE).groupby(["model", "workload"]).mean()
        for name in (OURS, DERIVED)
    }
    return (1e3 * medians[[OURS, DERIVED, CACHE, OBJECTS]]).add_suffix(" ms").assign(**less)


def figure(data: pd.DataFrame) -> Figure:
    """Latency (left) and modelled cost (right) by workload and system, a line a model; one dot a request.

    The dashed lines are what the paper's mean reductions against Cache-Agg, 64.66 % and 98.83 %, leave of its mean.
    """
    import matplotlib.pyplot as plt
    import seaborn as sns
    from style import COLOURS, legend

    models = list(dict.fromkeys(data["model"]))
    colours = {OURS: COLOURS["FLStore"], DERIVED: "#56B4E9", CACHE: COLOURS[CACHE], OBJECTS: COLOURS[OBJECTS]}
    columns = {"latency_s": ("measured", "latency, s", 0.6466), "modelled_cost_usd": ("modelled", "cost, USD", 0.9883)}
    said = ",\n".join(f"{printed:.2%} ({label.split(',')[0]})" for _, label, printed in columns.values())
    said = f"paper: {CACHE}'s mean less\n{said.replace('%', ' %')}"
    size = (13.5, 3.1 * len(models) + 1.2)
    drawn, panels = plt.subplots(
        len(models), 2, figsize=size, sharey="col", sharex=True, squeeze=False, layout="constrained"
    )
    for line, model in zip(panels, models, strict=True):
        for axes, (column, (basis, label, printed)) in zip(line, columns.items(), strict=True):
            part = data[data["model"] == model]
            common = {"x": "workload", "y": column, "hue": "system", "hue_order": list(colours), "palette": colours}
            sns.stripplot(part, **common, dodge=True, size=4.5, alpha=0.8, ax=axes, legend=False)
            left = (1 - printed) * part[part["system"] == CACHE][column].mean()
            paper = axes.axhline(left, color="black", linestyle="--", linewidth=1, label=said)
            axes.set(title=f"{model}, {basis}", xlabel="", ylabel=f"{label} ({basis})", yscale="log")
            axes.tick_params(axis="x", rotation=35)
            for tick in axes.get_xticklabels():
                tick.set_horizontalalignment("right")
    legend(panels[0][-1], colours, paper)
    asked = len(data) // data["system"].nunique()
    drawn.suptitle(f"FLStore and Cache-Agg, {asked} requests to each (Redis and S3 on loopback)")
    return drawn
