"""The same requests to several systems: what each took, and whether they say the same."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import psutil

from flstore.errors import FLStoreError, InvalidParameterError
from flstore.federated.rounds import RoundData

FIELDS = (
    "queue_s", "fetch_s", "compute_s", "hits", "late_hits", "misses", "bytes_moved", "operations", "memory_bytes",
    "derived",
)  # fmt: skip
"""What :func:`ask` takes of a record."""
TEN: Mapping[str, Mapping[str, Any]] = {
    "inference": {},
    "personalization": {"clusters": 2},
    "clustering": {"k": 3},
    "debugging": {},
    "malicious_filtering": {},
    "incentives": {},
    "scheduling_similarity": {"count": 5},
    "scheduling_performance": {"count": 5, "by": "accuracy"},
    "contribution": {"utility": "cosine_gradient"},
    "cosine_similarity": {},
}
"""The ten workloads of the paper's evaluation, with the parameters that they are asked with."""
EVALUATE = frozenset({"inference", "personalization", "debugging", "incentives", "scheduling_performance"})
"""Those that need a task, and import torch where they run."""
_IDLE_S, _SETTLE_WITHIN_S = 0.1, 60.0


def same_answer(left: Any, right: Any) -> bool:
    """Whether two results hold the same: numbers by ``numpy.allclose``, NaN equal to NaN, the rest by equality.

    Examples
    --------
    >>> same_answer({"score": np.array([1.0, np.nan])}, {"score": np.array([1.0 + 1e-9, np.nan])})
    True
    """
    left, right = (asdict(v) if is_dataclass(v) and not isinstance(v, type) else v for v in (left, right))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same_answer(left[k], right[k]) for k in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return len(left) == len(right) and all(map(same_answer, left, right))
    numbers = (bool, int, float, np.number)
    if isinstance(left, (np.ndarray, *numbers)) and isinstance(right, (np.ndarray, *numbers)):
        one, other = np.asarray(left), np.asarray(right)
        if one.dtype.kind in "biufc" and other.dtype.kind in "biufc":
            return one.shape == other.shape and bool(np.allclose(one, other, equal_nan=True))
        return bool(np.array_equal(one, other))
    return bool(left == right)


def ask(system: Any, workload: str, scope: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """One request: the answer, and what it took (seconds on the caller's clock, and :data:`FIELDS` of its record)."""
    began = time.perf_counter()
    result = system.request(workload, **scope)
    latency_s = time.perf_counter() - began
    return result.value, {"latency_s": latency_s, **{name: getattr(result.record, name) for name in FIELDS}}


def ask_anyway(system: Any, workload: str, scope: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """As :func:`ask`; a request that fails has no answer, and its row says why in ``error``.

    A request that was asked wrongly is the caller's mistake, and raised.
    """
    began = time.perf_counter()
    try:
        value, row = ask(system, workload, scope)
    except InvalidParameterError:
        raise
    except FLStoreError as error:
        return None, {"latency_s": time.perf_counter() - began, "error": f"{type(error).__name__}: {error}"}
    return value, {**row, "error": ""}


def compared(
    systems: Mapping[str, Any],
    rounds: Iterable[RoundData],
    workloads: Sequence[str],
    asks: int,
    readers: Collection[str] = (),
    warm: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Give every round to all systems, then ask each of them for the same, in turns; who is first rotates.

    Parameters
    ----------
    systems : mapping of str to System
        By the name that the rows will have.
    rounds : iterable of RoundData
        Each is durable everywhere, and what FLStore computes ahead is computed, before it is asked about.
    workloads : sequence of str
        About every round.
    asks : int
        How often each.
    readers : collection of str
        Systems on a root that an earlier one writes: they look for what is new, and are given nothing.
    warm : str, optional
        A workload that every system is asked for about a round without updates, which does not count: what is imported
        for the first request is imported then.

    Yields
    ------
    dict
        system, round, workload, ask, the row of :func:`ask`, answers_equal (to those of the first system), ahead_s
        (processor seconds of the system's functions while it took the round in, a request's share).
    """
    turn = 0
    for about in rounds:
        ahead = {name: _taken_in(system, about, name in readers) for name, system in systems.items()}
        for system in systems.values() if warm and not about.updates else ():
            system.request(warm, round=about.number)
        share = max(1, len(workloads) * asks)
        for workload in workloads if about.updates else ():
            for number in range(asks):
                names = list(systems)
                first = turn % len(names)
                turn += 1
                found = {
                    name: ask(systems[name], workload, {"round": about.number, **TEN.get(workload, {})})
                    for name in names[first:] + names[:first]
                }
                for name in names:
                    value, row = found[name]
                    equal = same_answer(value, found[names[0]][0])
                    fixed = {"system": name, "round": about.number, "workload": workload, "ask": number}
                    yield {**fixed, **row, "answers_equal": equal, "ahead_s": ahead[name] / share}


def take_in(system: Any, about: RoundData) -> None:
    """Let a system have a round, and wait until it is durable and there is nothing left to do."""
    system.ingest(about.number, about.updates, aggregate=about.aggregate, metadata=about.metadata)
    system.flush()
    settle(system)


def _taken_in(system: Any, about: RoundData, reads_only: bool) -> float:
    """Processor seconds that the functions of a system needed for a round."""
    before = busy_s(system)
    if reads_only:
        system.refresh([about.number])
    else:
        take_in(system, about)
    return busy_s(system) - before


def settle(system: Any) -> None:
    """Wait until the functions of a system do nothing any more, for a minute at most."""
    end, seen = time.monotonic() + _SETTLE_WITHIN_S, busy_s(system)
    while time.monotonic() < end:
        time.sleep(_IDLE_S)
        now = busy_s(system)
        if now - seen < _IDLE_S / 5:
            return
        seen = now


def busy_s(system: Any) -> float:
    """Processor seconds that the functions of a system have used so far; 0 for one that has none."""
    pool, total = getattr(system, "_pool", None), 0.0
    functions = list(pool.functions.values()) if pool is not None else []
    for function in functions:
        if function.pid == os.getpid():  # a thread of this process, whose time is not its own
            continue
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(psutil.Process(function.pid).cpu_times()[:2])
    return total
