"""Appendix A.1: parallel jobs with a function each, and requests in flight on more and more functions.

Latency is measured at the caller. Where this machine has fewer processors than there are functions, what is measured is
its processors; so the processor time of a request is measured too, and what it would take with processors of its own
for every function and every job is modelled from that.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psutil

from flstore.cost import Scale, idle, price

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from flstore import FLStore
    from flstore.federated import RoundData

JOBS, FUNCTIONS = "parallel jobs", "functions"
ROUND = 1
IDLE_S = 0.5
"""How long is watched what is used while nobody asks."""


def measure(
    model: str, workload: str, per_round: int, jobs: list[int], functions: list[int], requests: int, recordings: str
) -> pd.DataFrame:
    """First `jobs` at once, each asking its own function; then one job whose requests are spread over `functions`.

    Parameters
    ----------
    model, workload : str
        Whose recorded updates are read, and what is asked about them, from memory.
    per_round : int
        Updates of the round.
    jobs : list of int
        Jobs at the same time, each with a function and one request in flight. With one among them.
    functions : list of int
        Numbers of functions; in flight are 1 and then each of these numbers. Every function has a copy of the round, as
        section 4.5 scales them.
    requests : int
        By each job; of the second part, of every combination.
    recordings : str
        Folder of the recorded runs.

    Returns
    -------
    DataFrame
        One row a combination: sweep, jobs, functions, in_flight, requests, per_s, median_s, p95_s, function_cpu_s and
        caller_cpu_s (processor seconds a request), cores (of this machine), modelled_latency_s, modelled_cost_usd.
    """
    from recordings import rounds_of

    read = list(rounds_of(recordings, model, ROUND, per_round))
    rows = [*_jobs(read, workload, jobs, requests), *_functions(read, workload, functions, requests)]
    data = pd.DataFrame(rows).assign(cores=os.cpu_count())
    return data.join(_modelled(data))


def _jobs(read: list[RoundData], workload: str, jobs: list[int], requests: int) -> list[dict[str, Any]]:
    """Stores of their own, all open from the start, so that only the number of those that are asked differs."""
    rows = []
    with ExitStack() as stack:
        stores = [_open(stack, read, workload, 1, f"job-{number}") for number in range(max(jobs))]
        for count in jobs:
            some = stores[:count]

            def ask(some: list[FLStore] = some) -> list[float]:
                with ThreadPoolExecutor(len(some)) as threads:
                    each = threads.map(lambda store: _in_turn(store, workload, requests), some)
                    return [latency for found in each for latency in found]

            rows.append({"sweep": JOBS, "jobs": count, "functions": count, "in_flight": count, **_watched(some, ask)})
    return rows


def _functions(read: list[RoundData], workload: str, functions: list[int], requests: int) -> list[dict[str, Any]]:
    rows = []
    for count in functions:
        with ExitStack() as stack:
            store = _open(stack, read, workload, count, "default")
            for in_flight in sorted({1, *functions}):

                def ask(in_flight: int = in_flight, store: FLStore = store) -> list[float]:
                    with ThreadPoolExecutor(in_flight) as threads:
                        share = max(1, requests // in_flight)
                        each = threads.map(lambda _: _in_turn(store, workload, share), range(in_flight))
                        return [latency for found in each for latency in found]

                about = {"sweep": FUNCTIONS, "jobs": 1, "functions": count, "in_flight": in_flight}
                rows.append({**about, **_watched([store], ask)})
    return rows


def _open(stack: ExitStack, read: list[RoundData], workload: str, functions: int, job: str) -> FLStore:
    """A store whose functions all hold the round, and have been asked."""
    from flstore import FLStore
    from flstore.testing.comparing import take_in

    root = stack.enter_context(tempfile.TemporaryDirectory())
    options: dict[str, Any] = {"functions": functions, "replicas": functions - 1, "derive": False}
    store = stack.enter_context(FLStore.local(root=root, job=job, **options))
    for about in read:
        take_in(store, about)
    for _ in range(2):  # what is not in memory yet is loaded, and connections are opened
        _in_turn(store, workload, 1)
        store.flush()
    with ThreadPoolExecutor(functions) as threads:
        list(threads.map(lambda _: _in_turn(store, workload, 2), range(functions)))
    return store


def _in_turn(store: FLStore, workload: str, requests: int) -> list[float]:
    """Latency of each of some requests, one after the other."""
    found = []
    for _ in range(requests):
        began = time.perf_counter()
        store.request(workload, round=ROUND)
        found.append(time.perf_counter() - began)
    return found


def _watched(stores: list[FLStore], ask: Callable[[], list[float]]) -> dict[str, Any]:
    """What requests took, and of the processors beyond what is used while nobody asks."""
    idle_functions, idle_caller, idle_s, _ = _used(stores, lambda: time.sleep(IDLE_S))
    functions, caller, took, latencies = _used(stores, ask)
    count, share = len(latencies), took / idle_s
    return {
        "requests": count,
        "per_s": count / took,
        "median_s": float(np.median(latencies)),
        "p95_s": float(np.percentile(latencies, 95)),
        "function_cpu_s": max(0.0, functions - share * idle_functions) / count,
        "caller_cpu_s": max(0.0, caller - share * idle_caller) / count,
    }


def _used(stores: list[FLStore], what: Callable[[], Any]) -> tuple[float, float, float, Any]:
    """Processor seconds of the functions and of this process, seconds on the clock, and what came of it."""
    from flstore.testing.comparing import busy_s

    here = psutil.Process()
    before, mine, began = sum(map(busy_s, stores)), sum(here.cpu_times()[:2]), time.perf_counter()
    found = what()
    took = time.perf_counter() - began
    return sum(map(busy_s, stores)) - before, sum(here.cpu_times()[:2]) - mine, took, found


def _modelled(data: pd.DataFrame) -> pd.DataFrame:
    """Latency with processors of their own for every function and job, and the cost of a request.

    A job whose requests find a function free takes the processor time of one; jobs do not share anything. Requests of
    one job wait for a function, or for the process of their job, whichever is busier (Little's law).
    """
    alone = data["function_cpu_s"] + data["caller_cpu_s"]
    slowest = np.maximum(data["function_cpu_s"] / data["functions"], data["caller_cpu_s"])
    waiting = data["in_flight"] * np.where(data["sweep"] == FUNCTIONS, slowest, 0.0)
    latency = np.maximum(alone, waiting)
    billed = pd.DataFrame({"bytes_moved": 0, "operations": 0, "compute_s": data["function_cpu_s"]})
    kept = float(idle("FLStore", hours=1, scale=Scale(functions=1))["modelled_usd"].sum())
    each_hour: Any = 3600 * data["in_flight"] / latency
    cost = price(billed, system="FLStore")["modelled_cost_usd"] + kept * data["functions"] / each_hour
    return pd.DataFrame({"modelled_latency_s": latency, "modelled_cost_usd": cost})


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Requests a second, milliseconds and processor time a request, by combination."""
    columns = ["median_s", "p95_s", "function_cpu_s", "caller_cpu_s", "modelled_latency_s"]
    shown = data.set_index(["sweep", "jobs", "functions", "in_flight"])
    return (1e3 * shown[columns]).rename(columns=lambda name: name.replace("_s", " ms")).assign(per_s=shown["per_s"])


def figure(data: pd.DataFrame) -> Figure:
    """Latency by jobs, measured and modelled; by functions and requests in flight; and what a request costs."""
    import matplotlib.pyplot as plt
    import seaborn as sns
    from style import COLOURS

    drawn, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    jobs = data[data["sweep"] == JOBS]
    cores = int(data["cores"].iloc[0])
    left.plot(jobs["jobs"], jobs["median_s"], marker="o", color=COLOURS["lru"], label=f"measured, {cores} processors")
    modelled = {"marker": "s", "color": COLOURS["FLStore"], "label": "modelled, processors of their own"}
    left.plot(jobs["jobs"], jobs["modelled_latency_s"], **modelled)
    limit = 1.1 * float(jobs["modelled_latency_s"].iloc[int(jobs["jobs"].to_numpy().argmin())])
    left.axhline(limit, color="black", linestyle="--", linewidth=1, label="10 % above one job, modelled")
    left.set(title="jobs with a function each", xlabel="jobs", ylabel="latency of a request, s", ylim=(0, None))
    left.legend()
    one = data[data["sweep"] == FUNCTIONS].assign(functions=lambda d: d["functions"].astype(str))
    for axes, column, label in (
        (middle, "modelled_latency_s", "latency of a request, s (modelled)"),
        (right, "modelled_cost_usd", "cost of a request, USD (modelled)"),
    ):
        sns.lineplot(one, x="in_flight", y=column, hue="functions", style="functions", markers=True, ax=axes)
        axes.set(xlabel="requests in flight", ylabel=label, ylim=(0, None))
    sns.scatterplot(one, x="in_flight", y="median_s", hue="functions", marker="x", ax=middle, legend=False)
    middle.set_title("one job; crosses: measured median")
    right.set_title("one job")
    drawn.suptitle("Parallel jobs and functions: measured on this machine, modelled from measured processor time")
    return drawn
