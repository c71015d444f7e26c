"""How many accesses a second the simulator replays, policy by policy."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pandas as pd

from benchmarks.rows import Row
from benchmarks.timing import Spread, interleaved
from flstore.simulator import participation_trace, replay

CAPACITY = 100
PEER = "an LRU cache in a bare Python loop over the same rows"


def run(quick: bool = False) -> list[Row]:
    """Ten clients of 250 a round, 200 rounds, each update asked for once; as single keys and as whole rounds."""
    trace = participation_trace(clients=250, per_round=10, rounds=20 if quick else 200, seed=0)
    spreads = interleaved({"bare": lambda: _bare(trace), **_ways(trace)}, repetitions=2 if quick else 5)
    bare = spreads.pop("bare")
    return [_row(name, len(trace), spread, bare) for name, spread in spreads.items()]


def _ways(trace: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    single = trace.assign(workload="clustering")
    rounds = single.assign(request=single["round"])
    lineage, metadata = trace.assign(workload="lineage"), trace.assign(workload="hyperparameters")
    return {
        "P2, one key a request": lambda: replay(single, "p2"),
        "P2, ten keys a request": lambda: replay(rounds, "p2"),
        "P3, one key a request": lambda: replay(lineage, "p3"),
        "P4, one key a request": lambda: replay(metadata, "p4"),
        f"LRU of {CAPACITY} updates, one key a request": lambda: replay(single, "lru", capacity_updates=CAPACITY),
        "tailored, ten keys a request": lambda: replay(rounds, "tailored"),
    }


def _row(name: str, accesses: int, spread: Spread, bare: Spread) -> Row:
    return Row(
        f"replay {name}", accesses / spread.median, "accesses/s", peer=PEER, ratio=bare.median / spread.median,
        quartiles=(accesses / spread.high, accesses / spread.low), repetitions=spread.repetitions,
        note=f"{accesses} accesses, checks of the trace included",
    )  # fmt: skip


def _bare(trace: pd.DataFrame) -> int:
    cache: OrderedDict[tuple[int, int], None] = OrderedDict()
    hits = 0
    for key in zip(trace["round"].tolist(), trace["client"].tolist(), strict=True):
        if key in cache:
            hits += 1
            cache.move_to_end(key)
            continue
        cache[key] = None
        if len(cache) > CAPACITY:
            cache.popitem(last=False)
    return hits
