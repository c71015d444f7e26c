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
    "import_time", "replay", "adaptive", "overheads", "gram", "kmeans", "ingest", "cached_cosine", "evaluate",
    "requests", "memory", "load", "failover", "metadata", "big", "cost", "faulty",
)  # fmt: skip
LONG = {name: Path(__file__).with_name(f"{name}.json") for name in ("latency", "llama")}
"""Run by name only, because of what they take: most of an hour; 12 GB of memory. And where each is written."""
LATEST = Path(__file__).with_name("latest.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; 0 unless a benchmark failed (a goal that was missed is a finding, not a failure)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - {*NAMES, *LONG})
    if unknown:
        parser.error(f"there is no benchmark named {unknown[0]!r}; there are: {', '.join([*NAMES, *LONG])}")
    environment = machine.describe()
    found: dict[str, list[Row]] = {}
    took_s: dict[str, float] = {}
    for name in options.names or NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        began = time.perf_counter()
        found[name] = apart.run(name, options.quick)
        took_s[name] = time.perf_counter() - began
    print(report.table(row for rows in found.values() for row in rows))
    for name, rows in found.items():
        table = getattr(importlib.import_module(f"benchmarks.{name}"), "table", None)
        if table is not None:
            print(f"\n{table(rows)}")
    # A part of the figures, or figures of a small model, must not replace the whole ones.
    target = options.output or (None if options.quick else _whole(options.names))
    if target is not None:
        report.write(target, report.document(environment, found, took_s))
        print(f"written to {target}", file=sys.stderr)
        for name, rows in found.items():
            draw = getattr(importlib.import_module(f"benchmarks.{name}"), "plots", None)
            if draw is not None:
                draw(rows, target.parent / "plots")
    return 0


def _whole(names: Sequence[str]) -> Path | None:
    """Where the figures of a complete run go; None for a part of one."""
    return LATEST if not names else LONG.get(names[0]) if len(names) == 1 else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"which; default {', '.join(NAMES)}; long: {', '.join(LONG)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small model and few repetitions: tries the harness, not the speed"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"where to write the figures; default, for a complete run, {LATEST.name} or <name>.json",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
