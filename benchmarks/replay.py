"""How many accesses a second the simulator replays: one key a request, ten, and ten thousand."""

from __future__ import annotations

import resource
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.rows import Row
from benchmarks.timing import Spread, interleaved
from flstore.simulator import participation_trace, replay

CAPACITY = 100
PEER = "an LRU cache in a bare Python loop over the same rows"
SINGLE_PER_S = 100_000
SCALE_PER_S, SCALE_BYTES = 10_000_000, 2 << 30


def run(quick: bool = False) -> list[Row]:
    """Ten clients of 250 a round, 2,000 rounds, each update asked for once; and 10,000 of a million, 1,000 rounds."""
    trace = participation_trace(clients=250, per_round=10, rounds=20 if quick else 2000, seed=0)
    spreads = interleaved({"bare": lambda: _bare(trace), **_ways(trace)}, repetitions=2 if quick else 5)
    bare = spreads.pop("bare")
    rows = [_row(name, len(trace), spread, bare, SINGLE_PER_S) for name, spread in spreads.items()]
    return rows + _scale(quick)


def _ways(trace: pd.DataFrame) -> dict[str, Callable[[], Any]]:
    single = trace.assign(workload="clustering")
    rounds = single.assign(request=single["round"])
    lineage, metadata = trace.assign(workload="lineage"), trace.assign(workload="hyperparameters")
    return {
        "P2, one key a request": lambda: replay(single, "p2"),
        "P2, ten keys a request": lambda: replay(rounds, "p2"),
        "P3, one key a request": lambda: replay(lineage, "p3"),
        "P4, one key a request": lambda: replay(metadata, "p4"),
        "tailored, one key a request": lambda: replay(single, "tailored"),
        "tailored, ten keys a request": lambda: replay(rounds, "tailored"),
        f"LRU of {CAPACITY} updates, one key a request": lambda: replay(single, "lru", capacity_updates=CAPACITY),
    }


def _row(name: str, accesses: int, spread: Spread, bare: Spread, goal: int) -> Row:
    rate = accesses / spread.median
    asked = "one key" in name
    return Row(
        f"replay {name}", rate, "accesses/s", peer=PEER, ratio=bare.median / spread.median,
        goal=f"at least {goal:,}/s" if asked else "", met=rate >= goal if asked else None,
        quartiles=(accesses / spread.high, accesses / spread.low), repetitions=spread.repetitions,
        note=f"{accesses} accesses, checks of the trace included",
    )  # fmt: skip


def _scale(quick: bool) -> list[Row]:
    """The internet-scale trace: a request for each whole round. The bare loop runs over a tenth of it."""
    trace = internet_scale(rounds=10 if quick else 1000)
    part = trace.iloc[: len(trace) // 10]
    ways = {"bare": lambda: _bare(part), "tailored": lambda: replay(trace, "tailored", progress=False)}
    spreads = interleaved(ways, repetitions=2 if quick else 5)
    bare, spread = spreads["bare"], spreads["tailored"]
    rate = len(trace) / spread.median
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return [
        Row(
            "replay tailored, 10,000 of 1,000,000 clients a round", rate, "accesses/s", peer=PEER,
            ratio=rate / (len(part) / bare.median), goal=f"at least {SCALE_PER_S:,}/s", met=rate >= SCALE_PER_S,
            quartiles=(len(trace) / spread.high, len(trace) / spread.low), repetitions=spread.repetitions,
            note=f"{len(trace):,} accesses, from the DataFrame on",
        ),
        Row(
            "replay: peak resident memory of this process", peak / (1 << 20), "MiB", goal="under 2 GiB",
            met=peak < SCALE_BYTES, note=f"the trace itself has {trace.memory_usage().sum() / (1 << 20):.0f} MiB",
        ),
    ]  # fmt: skip


def internet_scale(
    clients: int = 1_000_000, per_round: int = 10_000, rounds: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Whole rounds asked for as they come: columns round, client, workload and request."""
    trace = participation_trace(clients, per_round, rounds, seed)
    workload = pd.Categorical.from_codes(np.zeros(len(trace), dtype=np.int8), ["clustering"])
    return trace.assign(workload=workload, request=trace["round"])


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
