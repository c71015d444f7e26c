"""What the live monitor costs: cached requests a second while it draws in a notebook, and while it does not.

All of it runs in a Jupyter kernel, because a monitor draws nowhere else; the two are measured in turn on one store.
"""

from __future__ import annotations

import json
import tempfile
import time
from typing import Any

import psutil

from benchmarks.requests import IN_FLIGHT, burst, fill
from benchmarks.rows import Row
from benchmarks.timing import Spread
from flstore import FLStore

MOST_COST = 0.02
TIMEOUT_S = 1800


def run(quick: bool = False) -> list[Row]:
    """Requests with 100 in flight, all of them hits."""
    import nbformat
    from nbclient import NotebookClient

    count, turns = (200, 1) if quick else (4000, 10)
    code = f"import json\nfrom benchmarks import monitor\nprint(json.dumps(monitor.measure({count}, {turns})))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3").execute()
    printed = "".join(o.text for o in notebook.cells[0].outputs if o.output_type == "stream" and o.name == "stdout")
    found = json.loads(printed)
    watched, alone = Spread.of(found["watched"]), Spread.of(found["alone"])
    ratio = watched.median / alone.median
    return [
        Row(
            "monitor: cached requests while it draws", watched.median, "requests/s", peer="the same without it",
            ratio=ratio, goal=f"at least {1 - MOST_COST:g} x the peer", met=ratio >= 1 - MOST_COST,
            quartiles=(watched.low, watched.high), repetitions=watched.repetitions,
            note=f"{IN_FLIGHT} in flight; without it the quartiles are {alone.low:.0f} and {alone.high:.0f} requests/s",
        ),
        Row(
            "monitor: processor time of its thread", 100 * found["share"], "% of one core",
            goal=f"at most {100 * MOST_COST:g} %", met=found["share"] <= MOST_COST,
            note=f"looking and drawing, in {found['watched_s']:.0f} s",
        ),
    ]  # fmt: skip


def measure(count: int, turns: int) -> dict[str, Any]:
    """In a kernel: requests a second of each turn with and without a monitor, and what its thread took.

    Parameters
    ----------
    count : int
        Requests a turn.
    turns : int
        Turns that count, after one that does not.
    """
    found: dict[str, list[float]] = {"watched": [], "alone": []}
    took_s = watched_s = 0.0
    with tempfile.TemporaryDirectory() as root, FLStore.local(functions=2, root=root, memory="256MiB") as store:
        fill(store)
        burst(store, count, IN_FLIGHT)
        for turn in range(turns):
            for name in ("watched", "alone") if turn % 2 else ("alone", "watched"):
                monitor = store.monitor() if name == "watched" else None
                began = time.perf_counter()
                found[name].append(burst(store, count, IN_FLIGHT).per_s)
                if monitor is not None:
                    watched_s += time.perf_counter() - began
                    took_s += _processor_s(monitor._thread.native_id)
                    monitor.close()
    return {**found, "share": took_s / watched_s, "watched_s": watched_s}


def _processor_s(thread: int | None) -> float:
    return sum(t.user_time + t.system_time for t in psutil.Process().threads() if t.id == thread)
