"""Figure 4: computing against communication, on a cloud function that caches nothing and reads from an object store.

Computing is measured, on real requests about recorded updates; so is fetching them from an S3 server on loopback. What
fetching takes in a cloud is modelled: as the authors' artifact stores updates, and as a strong baseline does.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import pandas as pd

from flstore.cost import price
from flstore.cost._yaml import read
from flstore.cost.paper import PER_LAYER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS = {"as the artifact": (PER_LAYER, "paper-minio-hdd"), "strong": ("ObjStore-Agg", "s3-same-region")}
"""An object a layer, one after the other, on disks like the paper's; an object an update, eight at a time, from S3."""
PAPER_S = {"computing": 2.8, "communication": 89.0}
BUCKET = "flstore"


def measure(
    models: list[str], workloads: list[str], per_round: int, examples: int, repetitions: int, recordings: str
) -> pd.DataFrame:
    """Ask for every workload on a round of each model; nothing is kept from one request to the next.

    Returns
    -------
    DataFrame
        One row a request and way of storing: model, workload, repetition, way, link, operations and bytes_moved,
        measured_fetch_s (loopback, an object an update), measured_compute_s, modelled_fetch_s, modelled_compute_s,
        modelled_latency_s.
    """
    asked = pd.concat(
        [_asked(m, workloads, per_round, examples, repetitions, recordings) for m in models], ignore_index=True
    )
    tensors = {model: size["tensors"] for model, size in read(None, "paper")[0]["models"].items()}
    parts = []
    for way, (system, link) in WAYS.items():
        layers = asked["model"].map(tensors) if system == PER_LAYER else 1
        parts.append(
            price(asked.assign(operations=asked["operations"] * layers), system=system, link=link).assign(way=way)
        )
    columns = [
        "model", "workload", "repetition", "way", "link", "operations", "bytes_moved", "measured_fetch_s",
        "measured_compute_s", "modelled_fetch_s", "modelled_compute_s", "modelled_latency_s",
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)[columns]


def _asked(
    model: str, workloads: list[str], per_round: int, examples: int, repetitions: int, recordings: str
) -> pd.DataFrame:
    """Real requests of a process that fetches what it reads; the first of each is not counted."""
    from recordings import rounds_of

    from flstore.baselines import ObjStoreAgg
    from flstore.testing.comparing import TEN, ask
    from flstore.testing.rounds import task_of
    from flstore.testing.services import rclone_s3

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, rclone_s3(folder) as s3:
        s3.create_bucket(BUCKET)
        with ObjStoreAgg(f"s3://{BUCKET}/{model}", storage_options=s3.storage_options) as system:
            system.task(**vars(task_of(model, examples, folder)))
            for about in rounds_of(recordings, model, 1, per_round):
                system.ingest(about.number, about.updates, aggregate=about.aggregate, metadata=about.metadata)
            system.flush()
            for repetition in range(repetitions + 1):
                for workload in workloads:
                    _, row = ask(system, workload, {"round": 1, **TEN[workload]})
                    fixed = {"model": model, "workload": workload, "repetition": repetition}
                    measured = {"measured_fetch_s": row["fetch_s"], "measured_compute_s": row["compute_s"]}
                    rows.append({**fixed, **row, **measured})
    return pd.DataFrame([row for row in rows if row["repetition"]])


def averages(data: pd.DataFrame, way: str) -> dict[str, float]:
    """Seconds of computing and of communication, the average over workloads and models."""
    cells = data[data["way"] == way].groupby(["model", "workload"])[["modelled_compute_s", "modelled_fetch_s"]].mean()
    return {
        "computing": float(cells["modelled_compute_s"].mean()),
        "communication": float(cells["modelled_fetch_s"].mean()),
    }


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Mean seconds by way, model and workload, and how many times computing communication is."""
    columns = ["measured_compute_s", "measured_fetch_s", "modelled_fetch_s"]
    found = data.groupby(["way", "model", "workload"], sort=False)[columns].mean()
    return found.assign(ratio=found["modelled_fetch_s"] / found["measured_compute_s"])


def figure(data: pd.DataFrame) -> Figure:
    """Computing and communication by workload, a panel a way of storing, with the paper's averages."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from style import COLOURS

    parts = {
        "computing": ("modelled_compute_s", COLOURS["FLStore"]),
        "communication": ("modelled_fetch_s", COLOURS["lru"]),
    }
    names = {"computing": "computing, measured", "communication": "communication, modelled"}
    drawn, panels = plt.subplots(1, len(WAYS), figsize=(13, 4.6), sharey=True, layout="constrained")
    for axes, way in zip(panels, WAYS, strict=True):
        # Means are taken here: on a shared logarithmic axis seaborn would take them of logarithms.
        rows = data[data["way"] == way].groupby("workload", sort=False, as_index=False).mean(numeric_only=True)
        long = pd.concat([rows.assign(part=names[name], seconds=rows[column]) for name, (column, _) in parts.items()])
        colours = {names[name]: colour for name, (_, colour) in parts.items()}
        sns.barplot(long, x="workload", y="seconds", hue="part", palette=colours, ax=axes, legend=axes is panels[-1])
        for name, seconds in PAPER_S.items():
            line = {"color": parts[name][1], "linestyle": "--", "linewidth": 1.2}
            axes.axhline(seconds, **line, label=f"paper: average {name}, {seconds:g} s")
        axes.set(title=way, xlabel="", ylabel="seconds, mean of the models", yscale="log")
        axes.tick_params(axis="x", rotation=25)
        for tick in axes.get_xticklabels():
            tick.set_horizontalalignment("right")
    panels[-1].legend(title=None, loc="center left", bbox_to_anchor=(1.0, 0.5))
    models = data["model"].nunique()
    drawn.suptitle(f"A function that caches nothing, {models} models: computing measured, communication modelled")
    return drawn
