"""How soon a request is answered from a copy when the function that holds its data is killed, or hangs."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from typing import Any

import numpy as np
import psutil

from benchmarks.rows import Row
from benchmarks.timing import Spread
from flstore import FLStore
from flstore.testing import faults

DEADLINE_S = 0.5
KILLED_GOAL_S = 0.2
HUNG_SLACK_S = 0.1
ASK: dict[str, Any] = {"workload": "cosine_similarity", "round": 3, "of": "model"}


def run(quick: bool = False) -> list[Row]:
    """Three functions, one copy of everything; each time the function that would answer is struck first.

    Raises
    ------
    RuntimeError
        The struck function answered, the answer differed, or it was not in memory.
    """
    repetitions = 3 if quick else 15
    options: dict[str, Any] = {"functions": 3, "memory": "64MiB", "replicas": 1, "ping_deadline_s": DEADLINE_S}
    with tempfile.TemporaryDirectory() as root, FLStore.local(root=root, **options) as store:
        rng = np.random.default_rng(0)
        for round in (1, 2, 3):
            store.ingest(round, {f"c{i}": {"w": rng.normal(size=100).astype("f4")} for i in range(10)})
        expected = store.request(**ASK).value.similarity
        store.flush()
        healthy = [_timed(store, expected, "")[0] for _ in range(repetitions)]
        killed = [_killed(store, expected) for _ in range(repetitions)]
        hung = [_hung(store, expected) for _ in range(repetitions)]
    return [
        _row("request answered, nothing wrong", healthy, None),
        _row("kill -9 to the answer by a secondary", killed, KILLED_GOAL_S),
        _row("SIGSTOP to the answer by a secondary", hung, DEADLINE_S + HUNG_SLACK_S, f"deadline {DEADLINE_S} s"),
    ]


def _killed(store: FLStore, expected: Any) -> float:
    name = _holder(store, expected)
    pid = faults.functions(store)[name]
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    _, ended = _timed(store, expected, name)
    faults.await_function(store, name, pid)
    store.flush()
    return ended - began


def _hung(store: FLStore, expected: Any) -> float:
    name = _holder(store, expected)
    process = psutil.Process(faults.functions(store)[name])
    began = time.perf_counter()
    process.suspend()
    try:
        _, ended = _timed(store, expected, name)
    finally:
        process.resume()
    while store._pool.silent():
        time.sleep(0.02)
    store.flush()
    return ended - began


def _holder(store: FLStore, expected: Any) -> str:
    """The function that answers now, all of whose data has a copy elsewhere."""
    wanted = 2 * 10
    while sum(sum(k.kind == 0 and k.round == 3 for k in keys) for keys in store.inventory().values()) < wanted:
        time.sleep(0.05)
    answer = store.request(**ASK)
    return str(answer.record.functions[-1])


def _timed(store: FLStore, expected: Any, struck: str) -> tuple[float, float]:
    """Seconds of one request, and when it ended."""
    began = time.perf_counter()
    answer = store.request(**ASK)
    ended = time.perf_counter()
    if answer.record.functions[-1] == struck or answer.record.misses or answer.record.bytes_moved:
        raise RuntimeError(f"not answered from a copy: {answer.record}")
    if not np.array_equal(answer.value.similarity, expected):
        raise RuntimeError("another answer")
    return ended - began, ended


def _row(name: str, seconds: list[float], goal_s: float | None, note: str = "") -> Row:
    spread = Spread.of(seconds)
    return Row(
        name, spread.median * 1e3, "ms",
        goal="" if goal_s is None else f"median under {goal_s * 1e3:.0f} ms",
        met=None if goal_s is None else spread.median < goal_s,
        note=note, quartiles=(spread.low * 1e3, spread.high * 1e3), repetitions=spread.repetitions,
    )  # fmt: skip
