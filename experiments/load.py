"""Request rate by number of functions, up to saturation, measured: what the review of the paper asks for.

Requests come at times drawn beforehand (a Poisson process), whether or not earlier ones are answered, and a latency
counts from the time at which its request was due: a system that falls behind shows it.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from concurrent.futures import Future

    from matplotlib.figure import Figure

    from flstore import FLStore
    from flstore.federated import RoundData

ROUND = 1


def measure(
    model: str,
    workload: str,
    per_round: int,
    functions: list[int],
    rates: list[float],
    seconds: float,
    seed: int,
    recordings: str,
) -> pd.DataFrame:
    """Offer every rate to stores with so many functions, each of which holds the round.

    Parameters
    ----------
    model, workload : str
        Whose updates are made, and what is asked about them.
    per_round, seed : int
        Updates of the round; the seed of the arrivals.
    functions : list of int
        Numbers of functions.
    rates : list of float
        Requests a second that are offered.
    seconds : float
        How long each rate is offered; all that came is answered before the next.

    Returns
    -------
    DataFrame
        One row a number of functions and rate: functions, offered_per_s, requests, answered_per_s, median_s, p95_s,
        misses, failed, busy (processors that the functions used, of cores), cores.
    """
    from recordings import rounds_of

    read = list(rounds_of(recordings, model, ROUND, per_round))
    rows = []
    for count in functions:
        with ExitStack() as stack:
            store = _open(stack, read, count, workload)
            for rate in rates:
                rows.append({"functions": count, **_offered(store, workload, rate, seconds, seed)})
    return pd.DataFrame(rows).assign(cores=os.cpu_count())


def _open(stack: ExitStack, read: list[RoundData], functions: int, workload: str) -> FLStore:
    from flstore import FLStore
    from flstore.testing.comparing import take_in

    root = stack.enter_context(tempfile.TemporaryDirectory())
    options: dict[str, Any] = {"functions": functions, "replicas": functions - 1, "derive": False}
    store = stack.enter_context(FLStore.local(root=root, **options))
    for about in read:
        take_in(store, about)
    store.request(workload, round=ROUND)
    store.flush()
    for answer in [store.submit(workload, round=ROUND) for _ in range(4 * functions)]:
        answer.result()
    return store


def _offered(store: FLStore, workload: str, rate: float, seconds: float, seed: int) -> dict[str, Any]:
    """Let requests come for so long, and wait for all answers."""
    from flstore.testing.comparing import busy_s

    gaps = np.random.default_rng(seed).exponential(1 / rate, size=max(1, round(rate * seconds)))
    before, began = busy_s(store), time.perf_counter()
    due = began + np.cumsum(gaps)
    ended: dict[int, float] = {}
    answers: list[Future[Any]] = []
    lock = threading.Lock()

    def note(number: int, _: Any) -> None:
        with lock:
            ended[number] = time.perf_counter()

    for number, moment in enumerate(due):
        time.sleep(max(0.0, moment - time.perf_counter()))
        answers.append(store.submit(workload, round=ROUND))
        answers[-1].add_done_callback(partial(note, number))
    failed = sum(answer.exception() is not None for answer in answers)
    took = time.perf_counter() - began
    while len(ended) < len(answers):  # a result is there a moment before its callbacks have run
        time.sleep(0.001)
    latencies = np.array([ended[number] - moment for number, moment in enumerate(due)])
    results = [answer.result() for answer in answers if answer.exception() is None]
    return {
        "offered_per_s": rate,
        "requests": len(answers),
        "answered_per_s": (len(answers) - failed) / took,
        "median_s": float(np.median(latencies)),
        "p95_s": float(np.percentile(latencies, 95)),
        "misses": sum(result.record.misses + result.record.late_hits for result in results),
        "failed": failed,
        "busy": (busy_s(store) - before) / took,
    }


def saturation(data: pd.DataFrame) -> pd.DataFrame:
    """By number of functions: the most requests a second that were answered, and whether more than that were offered.

    Saturated is a store that answers less than nine of ten of what is offered.
    """
    rows = {}
    for functions, part in data.groupby("functions"):
        behind = bool((part["answered_per_s"] < 0.9 * part["offered_per_s"]).any())
        rows[functions] = {"most_per_s": float(part["answered_per_s"].max()), "saturated": behind}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("functions")


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Rates and milliseconds by number of functions and offered rate."""
    shown = data.set_index(["functions", "offered_per_s"])
    milliseconds = (1e3 * shown[["median_s", "p95_s"]]).rename(columns={"median_s": "median ms", "p95_s": "95th ms"})
    return shown[["requests", "answered_per_s"]].join(milliseconds).join(shown[["misses", "failed", "busy"]])


def figure(data: pd.DataFrame) -> Figure:
    """What was answered of what was offered, and the latency, by number of functions."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    drawn, (left, right) = plt.subplots(1, 2, figsize=(11.5, 4.2), layout="constrained")
    shown = data.assign(functions=data["functions"].astype(str))
    for axes, column, label in (
        (left, "answered_per_s", "answered requests/s"),
        (right, "median_s", "latency, s (dashed: 95th percentile)"),
    ):
        common = {"x": "offered_per_s", "hue": "functions", "style": "functions", "markers": True, "dashes": False}
        sns.lineplot(shown, y=column, **common, ax=axes)
        axes.set(xscale="log", yscale="log", xlabel="offered requests/s", ylabel=label)
    sns.lineplot(shown, x="offered_per_s", y="p95_s", hue="functions", linestyle="--", ax=right, legend=False)
    ends = [data["offered_per_s"].min(), data["offered_per_s"].max()]
    left.plot(ends, ends, color="black", linestyle=":", linewidth=1, label="all that is offered")
    left.legend(title="functions")
    cores = int(data["cores"].iloc[0])
    drawn.suptitle(f"Request rate by number of functions, measured ({cores} processors; the paper has no such figure)")
    return drawn
