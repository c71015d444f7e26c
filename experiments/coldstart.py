"""Cold, restarted and warm: how long the first answer takes, measured. The review of the paper asks for it.

Beside FLStore an aggregator that reads the same objects from the same S3 server on loopback, which is always cold.
"""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

COLD, RESTARTED, WARM = "cold: nothing runs", "restarted: empty", "warm"
STATES = (COLD, RESTARTED, WARM)
BASELINE = "ObjStore-Agg"
BUCKET = "flstore"


def measure(
    models: list[str], workload: str, rounds: int, per_round: int, functions: int, repetitions: int, recordings: str
) -> pd.DataFrame:
    """Open a store that was written before and ask; kill all functions, wait until they are back, and ask; ask again.

    Parameters
    ----------
    models : list of str
        Whose recorded updates are read.
    workload : str
        Asked about the newest round.
    rounds, per_round, functions : int
        Rounds and updates in each, and cache functions.
    repetitions : int
        How often all of it, on the same objects.
    recordings : str
        Folder of the recorded runs.

    Returns
    -------
    DataFrame
        One row a request: system, model, state, repetition, start_s (until the store could be asked), request_s,
        total_s (their sum), fetch_s, compute_s, hits, late_hits, misses.
    """
    from recordings import rounds_of

    from flstore import FLStore
    from flstore.testing.comparing import take_in
    from flstore.testing.services import rclone_s3

    rows: list[dict[str, Any]] = []
    for model in models:
        with tempfile.TemporaryDirectory() as folder, rclone_s3(folder) as s3:
            s3.create_bucket(BUCKET)
            root: dict[str, Any] = {"root": f"s3://{BUCKET}/{model}", "storage_options": s3.storage_options}
            ours = {**root, "functions": functions, "model": model, "derive": False}
            with FLStore.local(**ours) as store:
                for about in rounds_of(recordings, model, rounds, per_round):
                    take_in(store, about)
            for repetition in range(repetitions):
                found = [*_ours(ours, workload, rounds), *_theirs(root, workload, rounds)]
                rows += [{"model": model, "repetition": repetition, **row} for row in found]
    return pd.DataFrame(rows)


def _ours(options: dict[str, Any], workload: str, round: int) -> Iterator[dict[str, Any]]:
    from flstore import FLStore
    from flstore.testing import faults
    from flstore.testing.comparing import settle

    began = time.perf_counter()
    with FLStore.local(**options) as store:
        yield _row(store, workload, round, COLD, time.perf_counter() - began)
        settle(store)
        before = faults.functions(store)
        began = time.perf_counter()
        for name in before:
            faults.kill(store, name)
        for name, pid in before.items():
            faults.await_function(store, name, pid)
        yield _row(store, workload, round, RESTARTED, time.perf_counter() - began)
        store.flush()
        settle(store)
        yield _row(store, workload, round, WARM, 0.0)


def _theirs(options: dict[str, Any], workload: str, round: int) -> Iterator[dict[str, Any]]:
    from flstore.baselines import ObjStoreAgg

    began = time.perf_counter()
    with ObjStoreAgg(**options) as system:
        yield {**_row(system, workload, round, COLD, time.perf_counter() - began), "system": BASELINE}
        yield {**_row(system, workload, round, WARM, 0.0), "system": BASELINE}


def _row(system: Any, workload: str, round: int, state: str, start_s: float) -> dict[str, Any]:
    from flstore.testing.comparing import ask

    _, row = ask(system, workload, {"round": round})
    kept = {name: row[name] for name in ("fetch_s", "compute_s", "hits", "late_hits", "misses")}
    seconds = {"start_s": start_s, "request_s": row["latency_s"], "total_s": start_s + row["latency_s"]}
    return {"system": "FLStore", "state": state, **seconds, **kept}


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Median seconds until the answer, and its parts, by system, model and state."""
    columns = ["start_s", "request_s", "fetch_s", "compute_s", "total_s", "hits", "late_hits", "misses"]
    return data.groupby(["model", "system", "state"], sort=False)[columns].median()


def figure(data: pd.DataFrame) -> Figure:
    """Seconds until the first answer, by model: starting below, the request on top of it."""
    import matplotlib.pyplot as plt
    import numpy as np
    from style import COLOURS

    models = list(dict.fromkeys(data["model"]))
    bars = [("FLStore", state) for state in STATES] + [(BASELINE, COLD), (BASELINE, WARM)]
    size = (4.8 * len(models) + 1.5, 4.4)
    drawn, panels = plt.subplots(1, len(models), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, model in zip(panels[0], models, strict=True):
        part = data[data["model"] == model].groupby(["system", "state"])[["start_s", "request_s"]].median()
        start, request = (np.array([part.loc[bar, column] for bar in bars]) for column in ("start_s", "request_s"))
        colours = [COLOURS[system] for system, _ in bars]
        places = [f"{system}\n{state}" for system, state in bars]
        axes.bar(places, start, color=colours, alpha=0.35, hatch="//", label="starting processes, opening the store")
        axes.bar(places, request, bottom=start, color=colours, label="the request")
        for place, total in enumerate(start + request):
            axes.annotate(f"{total:.2g} s", (place, total), ha="center", va="bottom", fontsize=9)
        axes.set(title=model, ylabel="seconds until the answer")
        axes.tick_params(axis="x", rotation=35, labelsize=9)
    panels[0][-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    drawn.suptitle("Cold, restarted and warm, measured (S3 on loopback; the paper has no such figure)")
    return drawn
