"""What the Request Tracker and the Cache Engine's index take, in memory and in time, as requests grow (section 5.6).

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

from flstore.engine import State, Tracker, settle
from flstore.engine.single import drop_one, find, unwant_one, want_one
from flstore.policies.base import Policy, View
from flstore.types import Event, FunctionJoined, Ingested, KeySet, Kind, PolicyClass, Requested, Unwant, Want

PER_ROUND = 1000
OPERATIONS = 20_000
PARTS = ("tracker", "index")


def make(part: str, count: int) -> Any:
    """The tracker with `count` open requests, or the index with as many objects."""
    return {"tracker": _tracker, "index": _index}[part](count)


def allocated_bytes(part: str, count: int) -> int:
    """What :func:`make` allocates and keeps."""
    make(part, count)  # what is cached at the first time
    gc.collect()
    tracemalloc.start()
    kept = make(part, count)
    gc.collect()
    traced, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return traced


def resident_bytes(part: str, count: int) -> int:
    """How much a process that has nothing else grows by it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_resident, partial(make, part, count)).result()


def operation_seconds(part: str, made: Any) -> dict[str, list[float]]:
    """Processor seconds of each of many single operations on what :func:`make` gave, by operation."""
    return _tracker_operations(made) if part == "tracker" else _index_operations(made)


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


def _resident(make: Callable[[], Any]) -> int:
    """How much a process that has nothing else grows, in bytes."""
    _index(PER_ROUND)  # so that no import counts
    gc.collect()
    before = psutil.Process().memory_info().rss
    kept = make()
    grown: int = psutil.Process().memory_info().rss - before
    del kept
    return grown


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

    def there(key: KeySet) -> tuple[Any, Any, int]:
        place = find(state, key)
        if place is None:
            raise LookupError(f"{key} is not in the index that was just made")
        return place

    def use(i: int) -> None:
        want_one(state, Want("second", different[i]), *there(different[i]))

    def withdraw(i: int) -> None:
        unwant_one(state, Unwant("second", different[i]), *there(different[i]))

    def remove(i: int) -> None:
        slot, table, row = there(different[i])
        unwant_one(state, Unwant("all", different[i]), slot, table, row)
        drop_one(state, slot, table, row)

    return {
        "find": _timed(len(keys), lambda i: find(state, keys[i])),
        "want": _timed(len(different), use),
        "withdraw": _timed(len(different), withdraw),
        "withdraw the last want and drop": _timed(len(different), remove),
    }


def _timed(count: int, operation: Callable[[int], Any]) -> list[float]:
    """Seconds of processor time of each, so that other work on the machine does not count."""
    gc.collect()
    taken = []
    for i in range(count):
        began = time.thread_time_ns()
        operation(i)
        taken.append((time.thread_time_ns() - began) / 1e9)
    return taken
