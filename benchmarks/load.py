"""Throughput and latency by the number of functions and of jobs, and by the number of requests in flight."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.requests import burst, fill
from benchmarks.rows import Row
from flstore import FLStore
from flstore.functions.clusters import start_local

FUNCTIONS = (1, 2, 4, 8)
JOBS = (1, 4, 16)
IN_FLIGHT = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
TOGETHER = 64
"""Requests in flight of all jobs together, where jobs and functions vary."""
_CELL = re.compile(r"load: (\d+) functions?, (\d+) jobs?: (\w+)")
_STEP = re.compile(r"load: (\d+) in flight: (\w+)")


@dataclass(frozen=True)
class Cell:
    """What one combination did: requests a second, latencies, processors in use, memory of the functions."""

    per_s: float
    latencies_s: list[float]
    cores: float
    memory_bytes: int


def run(quick: bool = False) -> list[Row]:
    """Each job is a store of its own on one cluster; all requests are checked to be hits."""
    rows: list[Row] = []
    functions, jobs, count = ((1, 2), (1, 2), 64) if quick else (FUNCTIONS, JOBS, 1600)
    for n in functions:
        with _cluster(n) as address:
            for m in jobs:
                rows += _rows(f"load: {_many(n, 'function')}, {_many(m, 'job')}", _cell(address, n, m, count))
    rows += _saturation(IN_FLIGHT[:3] if quick else IN_FLIGHT, 40 if quick else 1200)
    return rows


@contextmanager
def _cluster(functions: int) -> Iterator[tuple[str, Any]]:
    client, cluster = start_local(functions, True)
    try:
        yield cluster.scheduler_address, cluster.security
    finally:
        client.close()
        cluster.close()


def _cell(address: tuple[str, Any], functions: int, jobs: int, count: int) -> Cell:
    with ExitStack() as stack, ThreadPoolExecutor(jobs) as threads:
        root = stack.enter_context(tempfile.TemporaryDirectory())
        stores = [stack.enter_context(_open(address, root, f"job-{i}")) for i in range(jobs)]
        for store in stores:
            while len(store.status().functions) < functions:
                time.sleep(0.05)
            fill(store)
            burst(store, 20, 4)
        pids = {function.pid for function in stores[0]._pool.functions.values()}
        watched = [psutil.Process(pid) for pid in pids] + [psutil.Process()]
        before, began = _cpu(watched), time.perf_counter()
        each, share = max(1, count // jobs), max(1, TOGETHER // jobs)
        running: list[Future[Any]] = [threads.submit(burst, store, each, share) for store in stores]
        latencies = [latency for done in running for latency in done.result().latencies_s]
        took, cpu = time.perf_counter() - began, _cpu(watched) - before
        memory = sum(process.memory_info().rss for process in watched[:-1])
    return Cell(len(latencies) / took, latencies, cpu / took, memory)


def _open(address: tuple[str, Any], root: str, job: str) -> FLStore:
    return FLStore.connect(address[0], root, job=job, memory="64MiB", security=address[1])


def _cpu(processes: Iterable[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def _saturation(steps: tuple[int, ...], count: int) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as root, FLStore.local(functions=2, root=root, memory="64MiB") as store:
        fill(store)
        burst(store, count // 4, 64)
        for in_flight in steps:
            found = burst(store, count // 4 if in_flight == 1 else count, in_flight)
            rows += [
                Row(f"load: {in_flight} in flight: throughput", found.per_s, "requests/s"),
                Row(f"load: {in_flight} in flight: latency", float(np.median(found.latencies_s)) * 1e3, "ms"),
            ]
    return rows


def _rows(title: str, cell: Cell) -> list[Row]:
    low, middle, high, late = (float(v) * 1e3 for v in np.percentile(cell.latencies_s, [25, 50, 75, 95]))
    return [
        Row(f"{title}: throughput", cell.per_s, "requests/s", note=f"{TOGETHER} in flight, all jobs together"),
        Row(
            f"{title}: latency", middle, "ms", quartiles=(low, high), repetitions=len(cell.latencies_s),
            note=f"95th percentile {late:.3g} ms",
        ),
        Row(f"{title}: processors", cell.cores, "cores", note="this process and the functions"),
        Row(f"{title}: memory", cell.memory_bytes / 2**20, "MiB", note="resident, all functions together"),
    ]  # fmt: skip


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def plots(rows: Iterable[Row], folder: Path) -> list[Path]:
    """Draw what the rows say, into PNG files.

    Parameters
    ----------
    rows : iterable of Row
        Of :func:`run`.
    folder : Path
        Made when it is missing.
    """
    import matplotlib.pyplot as plt
    import pandas as pd
    import seaborn as sns

    cells, steps = [], []
    for row in rows:
        if found := _CELL.fullmatch(row.name):
            cells.append((int(found[1]), int(found[2]), found[3], row.value))
        elif found := _STEP.fullmatch(row.name):
            steps.append((int(found[1]), found[2], row.value))
    folder.mkdir(parents=True, exist_ok=True)
    sns.set_theme(style="whitegrid", context="paper")
    table = pd.DataFrame(cells, columns=["functions", "jobs", "what", "value"])
    units = {"throughput": "requests/s", "latency": "median latency, ms", "processors": "cores", "memory": "MiB"}
    figure, axes = plt.subplots(1, len(units), figsize=(14, 3.2), layout="constrained")
    for axis, (what, unit) in zip(axes, units.items(), strict=True):
        part = table[table["what"] == what].astype({"jobs": str})
        sns.lineplot(part, x="functions", y="value", hue="jobs", style="jobs", markers=True, ax=axis)
        axis.set(xscale="log", xticks=sorted(set(part["functions"])), ylabel=unit, ylim=(0, None), title=what)
        axis.set_xticklabels(sorted(set(part["functions"])))
        axis.minorticks_off()
    paths = [folder / "load.png", folder / "saturation.png"]
    figure.savefig(paths[0], dpi=90)
    plt.close(figure)
    table = pd.DataFrame(steps, columns=["requests in flight", "what", "value"])
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for axis, what in zip(axes, ("throughput", "latency"), strict=True):
        part = table[table["what"] == what]
        sns.lineplot(part, x="requests in flight", y="value", marker="o", ax=axis)
        axis.set_xscale("log", base=2)
        axis.set(ylabel=units[what], ylim=(0, None), title=what)
    figure.savefig(paths[1], dpi=90)
    plt.close(figure)
    return paths
