"""Figure 7: what a request takes at its caller, from FLStore and from an aggregator with an object store, measured.

Both serve the same requests on the same objects of the same S3 server, with the same workload code; only the way of the
data differs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from flstore.testing.comparing import ask, same_answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BUCKET = "flstore"
PAPER_REDUCTION = 0.5075
"""Of the mean latency, section 5.2."""


def trace(store: Any, repetitions: int) -> Iterator[dict[str, Any]]:
    """The requests: five workloads on every round, in the order in which the rounds came, `repetitions` times over.

    The lineage asked for is that of the first client of the round.
    """
    for repetition in range(1, repetitions + 1):
        for round_ in store.rounds():
            about = {"repetition": repetition, "round": round_}
            for workload in ("cosine_similarity", "malicious_filtering", "clustering", "hyperparameters"):
                yield {**about, "workload": workload, "scope": {"round": round_}}
            client = store.clients(round_)[0]
            yield {**about, "workload": "lineage", "scope": {"round": round_, "client": client}}


def compare(store: Any, baseline: Any, repetitions: int) -> pd.DataFrame:
    """Ask both systems for everything in the trace, in turns; who is asked first alternates."""
    rows = []
    for number, request in enumerate(trace(store, repetitions)):
        scope = request.pop("scope")
        systems = [("FLStore", store), ("ObjStore-Agg", baseline)]
        found = {name: ask(system, request["workload"], scope) for name, system in systems[:: 1 if number % 2 else -1]}
        equal = same_answer(found["FLStore"][0], found["ObjStore-Agg"][0])
        rows += [{"system": name, **request, **found[name][1], "answers_equal": equal} for name, _ in systems]
    return pd.DataFrame(rows)


def measure(models: list[str], rounds: int, repetitions: int, functions: int, recordings: str) -> pd.DataFrame:
    """Give each model's recorded rounds to a store, as training did, then ask FLStore and ObjStore-Agg for the same.

    Every request counts: the first ones, which find nothing prefetched, too. FLStore computes nothing ahead here, so
    that what the path of the data gains is not mixed with what an answer kept from before gains.

    Parameters
    ----------
    models : list of str
        Whose recorded runs are read.
    rounds, repetitions : int
        Rounds of each, and how often all is asked.
    functions : int
        Cache functions.
    recordings : str
        Folder of the recorded runs.

    Returns
    -------
    DataFrame
        One row a request and system: system, model, repetition, round, workload, latency_s, queue_s, fetch_s,
        compute_s, hits, late_hits, misses, bytes_moved, operations, memory_bytes, answers_equal.
    """
    from recordings import opened

    from flstore import FLStore
    from flstore.baselines import ObjStoreAgg
    from flstore.testing.services import rclone_s3

    parts = []
    for model in models:  # each on a server of its own, so that the disk has to hold one model's rounds
        with tempfile.TemporaryDirectory() as directory, rclone_s3(directory) as s3:
            s3.create_bucket(BUCKET)
            root = f"s3://{BUCKET}/{model}"
            options: dict[str, Any] = {"storage_options": s3.storage_options, "derive": False}  # the data path alone
            with FLStore.local(functions=functions, root=root, **options) as store:
                opened(recordings, model).replay(store, rounds=range(1, rounds + 1), progress=False)
                store.flush()
                with ObjStoreAgg(root, storage_options=s3.storage_options) as baseline:
                    parts.append(compare(store, baseline, repetitions).assign(model=model))
    return pd.concat(parts, ignore_index=True)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Median latency in milliseconds by model and workload, and the reduction of the mean in percent."""
    by = ["model", "workload"]
    medians = data.pivot_table(index=by, columns="system", values="latency_s", aggfunc="median") * 1e3
    means = data.pivot_table(index=by, columns="system", values="latency_s", aggfunc="mean")
    return medians.add_suffix(" median ms").assign(
        **{"reduction of the mean, %": 100 * (1 - means["FLStore"] / means["ObjStore-Agg"])}
    )


def figure(data: pd.DataFrame) -> Figure:
    """Latency by workload for both systems, a panel a model, on a logarithmic axis; one dot a request.

    The dashed lines are what the paper's mean reduction, 50.75 %, leaves of ObjStore-Agg's mean.
    """
    import seaborn as sns
    from style import COLOURS, grid, legend

    models = list(dict.fromkeys(data["model"]))
    drawn, panels = grid(len(models), (5.6, 3.8))
    for axes, model in zip(panels, models, strict=True):
        part = data[data["model"] == model]
        common = {"x": "workload", "y": "latency_s", "hue": "system", "palette": COLOURS, "ax": axes, "legend": False}
        sns.boxplot(part, **common, showfliers=False, fill=False, linewidth=1.2)
        sns.stripplot(part, **common, dodge=True, size=4, alpha=0.7)
        left = (1 - PAPER_REDUCTION) * part[part["system"] == "ObjStore-Agg"]["latency_s"].mean()
        name = f"paper: {100 * PAPER_REDUCTION:g} % below\nthe mean of ObjStore-Agg"
        paper = axes.axhline(left, color="black", linestyle="--", linewidth=1, label=name)
        axes.set(title=model, xlabel="", ylabel="latency at the caller, s", yscale="log")
        axes.tick_params(axis="x", rotation=30)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
    legend(panels[-1], {name: COLOURS[name] for name in ("FLStore", "ObjStore-Agg")}, paper)
    drawn.suptitle("Latency of a request, measured (loopback S3)")
    return drawn
