"""What the live monitor costs: cached requests a second while it draws in a notebook, and while it does not.

All of it runs in a Jupyter kernel, because a monitor draws nowhere else. Each turn measures one store three times, in
an order that changes: watched, alone, and alone again. The two alone say how far apart equals lie.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from typing import Any

import psutil

from benchmarks.requests import IN_FLIGHT, burst, fill
from benchmarks.rows import Row
from benchmarks.timing import Spread
from flstore import FLStore

MEASURED = ("watched", "alone", "again")
MOST_COST = 0.02
TIMEOUT_S = 1800


def run(quick: bool = False) -> list[Row]:
    """Requests with 100 in flight, all of them hits."""
    import nbformat
    from nbclient import NotebookClient

    count, turns = (200, 1) if quick else (4000, 18)
    code = f"import json\nfrom benchmarks import monitor\nprint(json.dumps(monitor.measure({count}, {turns})))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3").execute()
    printed = "".join(o.text for o in notebook.cells[0].outputs if o.output_type == "stream" and o.name == "stdout")
    found = json.loads(printed)
    watched, alone, again = (found[name] for name in MEASURED)
    ratio = Spread.of([w / ((a + b) / 2) for w, a, b in zip(watched, alone, again, strict=True)])
    equals = Spread.of([b / a for a, b in zip(alone, again, strict=True)])
    spread = Spread.of(watched)
    return [
        Row(
            "monitor: cached requests while it draws", spread.median, "requests/s", peer="the same turn without it",
            ratio=ratio.median, goal=f"at least {1 - MOST_COST:g} x the peer", met=ratio.median >= 1 - MOST_COST,
            quartiles=(spread.low, spread.high), repetitions=spread.repetitions,
            note=f"{IN_FLIGHT} in flight; median of the turns' ratios, quartiles {ratio.low:.3f} and {ratio.high:.3f}; "
            f"of the two without it: {equals.median:.3f}, quartiles {equals.low:.3f} and {equals.high:.3f}",
        ),
        Row(
            "monitor: processor time of its thread", 100 * found["share"], "% of one core",
            goal=f"at most {100 * MOST_COST:g} %", met=found["share"] <= MOST_COST,
            note=f"looking and drawing, in {found['watched_s']:.0f} s",
        ),
    ]  # fmt: skip


def measure(count: int, turns: int) -> dict[str, Any]:
    """In a kernel: requests a second with a monitor and twice without, and what its thread took.

    Parameters
    ----------
    count : int
        Requests that are measured together, three times a turn.
    turns : int
        Turns. One more measurement comes before them and does not count.
    """
    found: dict[str, list[float]] = {name: [] for name in MEASURED}
    orders = itertools.cycle(itertools.permutations(MEASURED))
    took_s = watched_s = 0.0
    with tempfile.TemporaryDirectory() as root, FLStore.local(functions=2, root=root, memory="256MiB") as store:
        fill(store)
        burst(store, count, IN_FLIGHT)
        for order in itertools.islice(orders, turns):
            for name in order:
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
