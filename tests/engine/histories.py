"""Random histories of an engine: ingests, requests, reports on loads and faults, in any order that can happen."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from hypothesis import strategies as st

from flstore import policies
from flstore.policies.taxonomy import CLASS_OF
from flstore.types import (
    NO_CLIENT,
    Deleted,
    Demand,
    Event,
    Feedback,
    FunctionJoined,
    FunctionLeaving,
    FunctionLost,
    Ingested,
    KeySet,
    Kind,
    Loaded,
    LoadFailed,
    PolicyClass,
    Requested,
)
from tests.engine.driver import Driver, aggregate

Step: TypeAlias = tuple[Any, ...]

_ROUND, _CLIENTS = st.integers(0, 5), st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True)
_FUNCTION, _ANY = st.integers(0, 2), st.integers(0, 10_000)
_WORKLOADS = ["clustering", "malicious_filtering", "lineage", "hyperparameters", "inference"]

_TRAINING = [
    st.tuples(
        st.just("ingest"),
        st.sampled_from([0, 0, 1]),
        st.sampled_from([0, 0, 1, 2]),
        _ROUND,
        _CLIENTS,
        st.integers(1, 6),
    ),
    st.tuples(st.just("request"), st.sampled_from(_WORKLOADS), _ANY, _CLIENTS, st.booleans()),
]
_DELETIONS = [
    st.tuples(st.just("delete"), st.just("round"), _ANY, st.booleans()),
    st.tuples(st.just("delete"), st.just("client"), _ANY, st.booleans()),
    st.tuples(st.just("delete"), st.just("some"), _ANY, st.booleans()),
]
_OPINIONS = [st.tuples(st.just("feedback"), _ANY, st.booleans())]
_REPORTS = [st.tuples(st.just("loaded"), _ANY)]
_FAULTS = [
    st.tuples(st.just("failed"), _ANY, _ANY),
    st.tuples(st.just("lost"), _FUNCTION, st.booleans()),
    st.tuples(st.just("joined"), _FUNCTION, st.integers(4, 30), _ANY),
    st.tuples(st.just("leaving"), _FUNCTION),
    st.tuples(st.just("demand"), _ANY, st.integers(0, 2)),
]
_START = st.lists(st.integers(4, 30), min_size=1, max_size=3)


def histories(*, faults: bool, size: int = 24) -> st.SearchStrategy[tuple[list[int], list[Step]]]:
    """Capacities of the first functions, and what happens then."""
    weighted = _TRAINING * 6 + _OPINIONS + _REPORTS * 3 + _DELETIONS + (_FAULTS if faults else [])
    what = st.sampled_from(weighted).flatmap(lambda kind: kind)
    return st.tuples(_START, st.lists(what, min_size=size, max_size=2 * size))


def drive(history: tuple[list[int], list[Step]], policy: str, *, check: bool = False, replicas: int = 0) -> Driver:
    """Let a history happen; what it cannot mean (a report on a load that is not under way) does not happen."""
    capacities, steps = history
    driver = Driver(policies.make(policy), replicas=replicas)
    for function, capacity in enumerate(capacities):
        driver.apply(FunctionJoined(function, capacity, f"{function}.0"))
    for number, what in enumerate(steps, start=1):
        event = _event(driver, number, what)
        if event is not None:
            driver.apply(event)
            if check:
                driver.check()
    return driver


def _event(driver: Driver, number: int, what: Step) -> Event | None:
    name, *rest = what
    return {
        "ingest": _ingest,
        "request": _request,
        "delete": _delete,
        "feedback": _feedback,
        "loaded": _loaded,
        "failed": _failed,
        "lost": _lost,
        "joined": _joined,
        "leaving": _leaving,
        "demand": _demand,
    }[name](driver, number, *rest)


def _ingest(
    driver: Driver, number: int, job: int, kind: int, round: int, clients: list[int], size: int
) -> Event | None:
    who = [NO_CLIENT] if kind == Kind.AGGREGATE else clients
    keys = [(job, Kind(kind), round, c) for c in who]
    # Only metadata comes twice, and it may have grown.
    new = [key for key in keys if kind == Kind.METADATA or key not in driver.exists]
    if not new:
        return None
    sizes = [size + i for i in range(len(new))]
    return Ingested(KeySet.of_round(job, Kind(kind), round, [c for *_, c in new]), np.array(sizes, dtype=np.int64))


def _request(
    driver: Driver, number: int, workload: str, which: int, clients: list[int], with_aggregate: bool
) -> Event | None:
    """Something of a round that exists; some of the clients may not."""
    policy_class = CLASS_OF[workload]
    kind = Kind.METADATA if policy_class is PolicyClass.P4 else Kind.UPDATE
    there = sorted({(job, round) for job, k, round, _ in driver.exists if k is kind})
    if not there:
        return None
    job, round = there[which % len(there)]
    if policy_class is PolicyClass.P3:
        parts = [KeySet.of_client(job, kind, clients[0], sorted({round, there[-1][1]}))]
    else:
        parts = [KeySet.of_round(job, kind, round, clients)]
    if with_aggregate and (job, Kind.AGGREGATE, round - 1, NO_CLIENT) in driver.exists:
        parts.append(aggregate(round - 1, job))
    return Requested(number, job, workload, policy_class, round, None, tuple(parts))


def _delete(driver: Driver, number: int, what: str, which: int, with_others: bool) -> Event | None:
    """A round with or without its aggregate, a client, or some of a round; named twice, or with what never was."""
    there = sorted(driver.exists)
    if not there:
        return None
    job, kind, round, client = there[which % len(there)]
    if what == "client" and client != NO_CLIENT:
        rounds = {k: sorted(r for j, kk, r, c in there if (j, kk, c) == (job, k, client)) for k in Kind}
        more = [99] if with_others else []
        return Deleted(tuple(KeySet.of_client(job, k, client, rs + more) for k, rs in rounds.items() if rs))
    by_kind = {k: sorted(c for j, kk, r, c in there if (j, kk, r) == (job, k, round)) for k in Kind}
    if what == "some":
        chosen = [c for i, c in enumerate(by_kind[kind]) if (which >> i) % 2] or [client]
        return Deleted((KeySet.of_round(job, kind, round, chosen + chosen[:1] * with_others),))
    kinds = [k for k in Kind if by_kind[k] and (with_others or k is not Kind.AGGREGATE)]
    return Deleted(tuple(KeySet.of_round(job, k, round, by_kind[k]) for k in kinds)) if kinds else None


def _feedback(driver: Driver, number: int, which: int, useful: bool) -> Event:
    return Feedback(which % number, useful)


def _loaded(driver: Driver, number: int, which: int) -> Event | None:
    if not driver.pending:
        return None
    load = driver.pending.pop(which % len(driver.pending))
    return Loaded(load.function, load.keys, load.generation)


def _failed(driver: Driver, number: int, which: int, part: int) -> Event | None:
    """Some objects of one load could not be had; what was decided since then is not meant."""
    if not driver.pending:
        return None
    load = driver.pending.pop(which % len(driver.pending))
    if load.keys.kind is Kind.AGGREGATE:
        return LoadFailed(load.function, load.keys, "gone", load.generation)
    ((round, clients),) = load.keys.by_round()
    keys = KeySet(load.keys.job, load.keys.kind, round, clients[: 1 + part % len(clients)])
    return LoadFailed(load.function, keys, "gone", load.generation)


def _lost(driver: Driver, number: int, function: int, late_news: bool) -> Event:
    known = driver.state.functions.get(function)
    incarnation = "an earlier one" if late_news or known is None else known.incarnation
    return FunctionLost(function, incarnation)


def _leaving(driver: Driver, number: int, function: int) -> Event:
    return FunctionLeaving(function)


def _demand(driver: Driver, number: int, which: int, copies: int) -> Event | None:
    there = sorted({key[:3] for key in driver.exists})
    if not there:
        return None
    job, kind, round = there[which % len(there)]
    return Demand(KeySet.of_round(job, kind, round, []), copies)


def _joined(driver: Driver, number: int, function: int, capacity: int, choice: int) -> Event:
    """A function comes, or comes back; it brings what fits of some existing objects, and some that were deleted."""
    rng = np.random.default_rng(choice)
    holds, left = [], capacity
    for key in sorted(driver.exists):
        size = driver.exists[key]
        if size <= left and rng.random() < 0.3:
            holds.append((KeySet.of_round(key[0], key[1], key[2], [key[3]]), np.array([size], dtype=np.int64)))
            left -= size
    for key in sorted(driver.gone)[: choice % 3]:
        holds.append((KeySet.of_round(key[0], key[1], key[2], [key[3]]), np.array([1], dtype=np.int64)))
    if choice % 4 == 0 and holds:  # under the name of the first, there was another object
        holds[0] = (holds[0][0], np.array([0], dtype=np.int64))
    return FunctionJoined(function, capacity, f"{function}.{number}", tuple(holds))
