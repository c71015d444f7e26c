"""Section 5.6: what the Request Tracker and the Cache Engine's index take, in memory and in time, as requests grow.

Counted for the tracker: of every open request its number, status, functions, job, workload, class, round and client,
the names of these, and the records of the last 512 (which are the caller's own objects meanwhile). Not counted: the
handles of older requests, which whoever asked holds, and what a request took, which is noted when it ends (69 bytes).

Counted for the index: of as many objects as requests, each held by a function, where it is, its size, who wants it, its
load; the rounds and look-up tables. Not counted: what the policy remembers, names of clients, the event log.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
import tracemalloc
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, ClassVar

import numpy as np
import psutil

from benchmarks.rows import Row
from flstore.engine import State, Tracker, settle
from flstore.engine.single import drop_one, find, unwant_one, want_one
from flstore.policies.base import Policy, View
from flstore.types import Event, FunctionJoined, Ingested, KeySet, Kind, PolicyClass, Requested, Unwant, Want

PER_ROUND = 1000
TRACKER_MB, INDEX_MB, P99_US = 2.0, 6.3, 20.0
PAPER_MB = {1000: (0.19, 0.6), 100_000: (20.3, 63.2)}
OPERATIONS = 20_000


def run(quick: bool = False) -> list[Row]:
    """1,000, 100,000 and a million requests at once."""
    rows: list[Row] = []
    for count in (1000,) if quick else (1000, 100_000, 1_000_000):
        for number, (part, make) in enumerate((("tracker", _tracker), ("index", _index))):
            goal = (TRACKER_MB, INDEX_MB)[number] if count == 100_000 else None
            paper = PAPER_MB.get(count, (None, None))[number]
            rows.append(_memory(f"{part}, {count:,} concurrent requests", partial(make, count), goal, paper))
            rows += _times(part, make(count), count)
    return rows


class Everything(Policy):
    """Wants all that comes in."""

    name: ClassVar[str] = "everything"

    def decide(self, event: Event, view: View) -> Iterable[Want]:
        if isinstance(event, Ingested):
            yield Want("all", event.keys)


def _tracker(count: int) -> Tracker:
    tracker = Tracker("FLStore")
    for number in range(count):
        tracker.open("job", "clustering", "P2", number // PER_ROUND, f"client-{number % PER_ROUND}")
    return tracker


def _index(count: int) -> State:
    """Rounds of 1,000 clients in no order, each object held; one request for one object of each round was decided."""
    state, policy, rng = State(instant=True), Everything(), np.random.default_rng(0)
    settle(state, policy, FunctionJoined(0, 2**62))
    for round in range(max(1, count // PER_ROUND)):
        clients = rng.permutation(PER_ROUND)
        settle(state, policy, Ingested(KeySet(0, Kind.UPDATE, round, clients), np.full(PER_ROUND, 44_765_128)))
        one = KeySet(0, Kind.UPDATE, round, clients[:1])
        settle(state, policy, Requested(round + 1, 0, "clustering", PolicyClass.P2, round, None, (one,)))
    return state


def _memory(name: str, make: Callable[[], Any], goal: float | None, paper: float | None) -> Row:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        resident = fresh.submit(_resident, make).result()
    make()  # what is cached at the first time
    gc.collect()
    tracemalloc.start()
    kept = make()
    gc.collect()
    traced, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    megabytes = traced / 1e6
    return Row(
        f"overheads: memory of the {name}", megabytes, "MB",
        peer="" if paper is None else f"the paper's {paper:g} MB", ratio=None if paper is None else megabytes / paper,
        goal="" if goal is None else f"at most {goal:g} MB", met=None if goal is None else megabytes <= goal,
        note=f"allocated (tracemalloc); resident memory grew by {resident / 1e6:.1f} MB",
    )  # fmt: skip


def _resident(make: Callable[[], Any]) -> int:
    """How much a process that has nothing else grows, in bytes."""
    _index(PER_ROUND)  # so that no import counts
    gc.collect()
    before = psutil.Process().memory_info().rss
    kept = make()
    grown: int = psutil.Process().memory_info().rss - before
    del kept
    return grown


def _times(part: str, made: Any, count: int) -> list[Row]:
    operations = _tracker_operations(made) if part == "tracker" else _index_operations(made)
    rows = []
    for name, seconds in operations.items():
        median, p99, worst = (float(v) * 1e6 for v in np.percentile(seconds, [50, 99, 100]))
        row = Row(
            f"overheads: {part}, {name}, {count:,} concurrent requests", p99, "us at 99 %",
            goal=f"at most {P99_US:g} us", met=p99 <= P99_US, repetitions=len(seconds),
            note=f"processor time; median {median:.2g} us, worst {worst:.0f} us",
        )  # fmt: skip
        rows.append(row)
    return rows


def _tracker_operations(tracker: Tracker) -> dict[str, list[float]]:
    records = []
    names = [f"client-{number}" for number in range(PER_ROUND)]
    opened = _timed(
        OPERATIONS,
        lambda i: records.append(tracker.open("job", "clustering", "P2", i // PER_ROUND, names[i % PER_ROUND])),
    )
    for record in records:
        record.status, record.hits, record.latency_s = "done", 10, 0.1
    return {"open": opened, "close": _timed(len(records), lambda i: tracker.close(records[i]))}


def _index_operations(state: State) -> dict[str, list[float]]:
    rng = np.random.default_rng(1)
    rounds = rng.integers(len(state.rounds[0, Kind.UPDATE]), size=OPERATIONS).tolist()
    clients = rng.integers(PER_ROUND, size=OPERATIONS)
    keys = [KeySet(0, Kind.UPDATE, r, clients[i : i + 1]) for i, r in enumerate(rounds)]
    found = {(r, c): k for r, c, k in zip(rounds, clients.tolist(), keys, strict=True)}
    different = list(found.values())

    def use(i: int) -> None:
        want_one(state, Want("second", different[i]), *_there(state, different[i]))

    def withdraw(i: int) -> None:
        unwant_one(state, Unwant("second", different[i]), *_there(state, different[i]))

    def remove(i: int) -> None:
        slot, table, row = _there(state, different[i])
        unwant_one(state, Unwant("all", different[i]), slot, table, row)
        drop_one(state, slot, table, row)

    return {
        "find": _timed(len(keys), lambda i: find(state, keys[i])),
        "want": _timed(len(different), use),
        "withdraw": _timed(len(different), withdraw),
        "withdraw the last want and drop": _timed(len(different), remove),
    }


def _there(state: State, keys: KeySet) -> Any:
    return find(state, keys)


def _timed(count: int, operation: Callable[[int], Any]) -> list[float]:
    """Seconds of processor time of each, so that other work on the machine does not count."""
    gc.collect()
    taken = []
    for i in range(count):
        began = time.thread_time_ns()
        operation(i)
        taken.append((time.thread_time_ns() - began) / 1e9)
    return taken
