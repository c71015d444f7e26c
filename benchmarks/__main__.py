"""``python -m benchmarks [names...]``: run the benchmarks, print a table, write every figure as JSON."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import apart, machine, report
from benchmarks.rows import Row

NAMES = (
    "import_time", "replay", "adaptive", "overheads", "gram", "kmeans", "ingest", "observer", "cached_cosine",
    "evaluate", "requests", "monitor", "memory", "load", "failover", "metadata", "big", "cost", "faulty", "display",
)  # fmt: skip
LONG = ("latency", "llama", "many_clients")
"""Run by name only, because of what they take: most of an hour; 12 GB of memory; some ten minutes and 8 GB."""
ALL = (*NAMES, *LONG)
LATEST = Path(__file__).with_name("latest.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 unless a benchmark failed (a goal that was missed is a finding, not a failure)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(ALL))
    if unknown:
        parser.error(f"there is no benchmark named {unknown[0]!r}; there are: {', '.join(ALL)}")
    # Figures of a small model must not replace the whole ones.
    target = options.output or (None if options.quick else LATEST)
    found: list[Row] = []
    for name in options.names or NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        environment, began = machine.describe(), time.perf_counter()
        rows = apart.run(name, options.quick)
        found += rows
        if target is not None:
            report.update(target, report.result(name, environment, rows, time.perf_counter() - began), ALL)
        _show(name, rows, target)
    print(report.table(found))
    if target is not None:
        print(f"written to {target}", file=sys.stderr)
    return 0


def _show(name: str, rows: list[Row], target: Path | None) -> None:
    """What a benchmark has besides the table of all: one of its own, and figures."""
    module = importlib.import_module(f"benchmarks.{name}")
    if hasattr(module, "table"):
        print(f"{module.table(rows)}\n")
    if target is not None and hasattr(module, "plots"):
        module.plots(rows, target.parent / "plots")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"which; default {', '.join(NAMES)}; long: {', '.join(LONG)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small model and few repetitions: tries the harness, not the speed"
    )
    parser.add_argument("--output", type=Path, help=f"the file of figures to put these into; default {LATEST.name}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
