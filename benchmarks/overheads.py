"""Section 5.6: what the Request Tracker and the Cache Engine's index take, in memory and in time, as requests grow.

What is counted is said in :mod:`flstore.testing.overheads`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.rows import Row
from flstore.testing.overheads import PARTS, allocated_bytes, make, operation_seconds, resident_bytes

TRACKER_MB, INDEX_MB, P99_US = 2.0, 6.3, 20.0
PAPER_MB = {1000: (0.19, 0.6), 100_000: (20.3, 63.2)}


def run(quick: bool = False) -> list[Row]:
    """1,000, 100,000 and a million requests at once."""
    rows: list[Row] = []
    for count in (1000,) if quick else (1000, 100_000, 1_000_000):
        for number, part in enumerate(PARTS):
            goal = (TRACKER_MB, INDEX_MB)[number] if count == 100_000 else None
            paper = PAPER_MB.get(count, (None, None))[number]
            rows.append(_memory(part, count, goal, paper))
            rows += _times(part, make(part, count), count)
    return rows


def _memory(part: str, count: int, goal: float | None, paper: float | None) -> Row:
    resident, megabytes = resident_bytes(part, count), allocated_bytes(part, count) / 1e6
    return Row(
        f"overheads: memory of the {part}, {count:,} concurrent requests", megabytes, "MB",
        peer="" if paper is None else f"the paper's {paper:g} MB", ratio=None if paper is None else megabytes / paper,
        goal="" if goal is None else f"at most {goal:g} MB", met=None if goal is None else megabytes <= goal,
        note=f"allocated (tracemalloc); resident memory grew by {resident / 1e6:.1f} MB",
    )  # fmt: skip


def _times(part: str, made: Any, count: int) -> list[Row]:
    rows = []
    for name, seconds in operation_seconds(part, made).items():
        median, p99, worst = (float(v) * 1e6 for v in np.percentile(seconds, [50, 99, 100]))
        row = Row(
            f"overheads: {part}, {name}, {count:,} concurrent requests", p99, "us at 99 %",
            goal=f"at most {P99_US:g} us", met=p99 <= P99_US, repetitions=len(seconds),
            note=f"processor time; median {median:.2g} us, worst {worst:.0f} us",
        )  # fmt: skip
        rows.append(row)
    return rows
