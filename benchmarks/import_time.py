"""How long ``import flstore`` takes in a fresh interpreter, and what it drags in."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.machine import ROOT
from benchmarks.rows import Row
from benchmarks.timing import Spread

LIMIT_S = 0.5
HEAVY = ("torch", "flwr", "distributed", "s3fs", "sklearn", "pandas", "pyarrow", "matplotlib", "IPython")
_CODE = """
import json, sys, time
began = time.perf_counter()
{statement}
took = time.perf_counter() - began
print(json.dumps([took, [m for m in {heavy!r} if m in sys.modules]]))
"""


def run(quick: bool = False) -> list[Row]:
    """The package, and the class that a user imports first; the interpreter's own start is not counted."""
    repetitions = 2 if quick else 5
    package, heavy = _fresh("import flstore", repetitions)
    store, with_store = _fresh("from flstore import FLStore", repetitions)
    goal = f"under {LIMIT_S:g} s, without torch, flwr and distributed"
    met = package.median < LIMIT_S and not {"torch", "flwr", "distributed"} & set(heavy)
    return [
        _row("import_time: import flstore", package, heavy, goal, met),
        _row("import_time: from flstore import FLStore", store, with_store),
    ]


def _row(name: str, spread: Spread, heavy: list[str], goal: str = "", met: bool | None = None) -> Row:
    note = f"brings {', '.join(heavy) if heavy else 'none'} of {', '.join(HEAVY)}"
    return Row(
        name, spread.median, "s", goal=goal, met=met, note=note,
        quartiles=(spread.low, spread.high), repetitions=spread.repetitions,
    )  # fmt: skip


def _fresh(statement: str, repetitions: int) -> tuple[Spread, list[str]]:
    code = _CODE.format(statement=statement, heavy=HEAVY)
    seconds, heavy = [], []
    for turn in range(repetitions + 1):  # the first one may have to compile and to read from disk
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        took, heavy = json.loads(done.stdout)
        if turn:
            seconds.append(took)
    return Spread.of(seconds), heavy
