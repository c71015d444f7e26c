"""The adaptive policy beside each fixed class, on the mixed traces of ``adaptive.yaml``: hit ratios, not speed."""

from __future__ import annotations

from benchmarks.mixed_traces import PLAN, participation, trace
from benchmarks.rows import Row
from flstore.simulator import replay
from flstore.types import PolicyClass

CLASSES = [str(c) for c in PolicyClass]


def run(quick: bool = False) -> list[Row]:
    """Every trace at every capacity."""
    scale = "test" if quick else "bench"
    return [_row(name, capacity, scale) for name in PLAN["traces"] for capacity in PLAN["capacities"]]


def hit_ratios(name: str, capacity: int | None, scale: str) -> dict[str, float]:
    """The hit ratio of each fixed class and of the adaptive policy, by name."""
    rows, everybody = trace(name, scale), participation(scale)
    found = {
        c: replay(rows, "static", capacity_updates=capacity, participation=everybody, policy_class=c).hit_ratio
        for c in CLASSES
    }
    for policy in ("adaptive", "tailored"):
        found[policy] = replay(rows, policy, capacity_updates=capacity, participation=everybody).hit_ratio
    return found


def _row(name: str, capacity: int | None, scale: str) -> Row:
    found = hit_ratios(name, capacity, scale)
    best = max(CLASSES, key=lambda c: found[c])
    room = "all that is wanted" if capacity is None else f"{capacity} updates"
    return Row(
        f"adaptive on {name}, room for {room}", found["adaptive"], "hit ratio", f"the best fixed class ({best})",
        found["adaptive"] / found[best], f"at most {PLAN['tolerance']} below the best fixed class",
        found["adaptive"] >= found[best] - PLAN["tolerance"],
        ", ".join(f"{policy} {ratio:.3f}" for policy, ratio in found.items()),
    )  # fmt: skip
