"""Classic policies hit for hit against cachetools, the offline optimum against an exhaustive search."""

from __future__ import annotations

from functools import cache
from typing import Any

import cachetools
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flstore import policies
from flstore.engine import State, step
from flstore.errors import PolicyError
from flstore.policies import Belady
from flstore.simulator import participation_trace, replay
from flstore.types import FunctionJoined, Ingested, KeySet, Requested, Run
from tests.policies.held import Engine, M, U

PEERS = {"lru": cachetools.LRUCache, "fifo": cachetools.FIFOCache, "lfu": cachetools.LFUCache}
FILLS = ["write-around", "write-allocate"]


def zipf(seed: int, rows: int = 500) -> pd.DataFrame:
    """Old updates asked for over and over, the popular ones more often; sizes differ."""
    rng = np.random.default_rng(seed)
    rank = np.minimum(rng.zipf(1.2, size=rows), 300)
    sizes = rng.integers(1, 9, size=400)
    return pd.DataFrame({"round": rank // 7, "client": rank % 7, "size_bytes": sizes[rank]})


def scan(seed: int) -> pd.DataFrame:
    """Every update of every round, then some rounds anew, and again from the start."""
    once = participation_trace(clients=30, per_round=5, rounds=20, seed=seed)
    anew = once[once["round"].isin(np.random.default_rng(seed).choice(20, size=6) + 1)]
    return pd.concat([once, anew, once]).assign(size_bytes=1)


def by_peer(trace: pd.DataFrame, name: str, capacity: int, fill: str) -> list[str]:
    """What cachetools would have had, its cache filled by hand."""
    peer: Any = PEERS[name](capacity, getsizeof=lambda size: size)
    rounds = {r: g.drop_duplicates("client") for r, g in trace.groupby("round")}
    outcome = []

    def put(key: tuple[int, int], size: int) -> None:
        if size <= capacity:
            peer[key] = size

    for r in sorted(rounds):  # all of it first: a post-hoc trace
        if fill == "write-allocate":
            for client, size in zip(rounds[r]["client"], rounds[r]["size_bytes"], strict=True):
                put((r, client), size)
    for r, client, size in zip(trace["round"], trace["client"], trace["size_bytes"], strict=True):
        held = (r, client) in peer
        outcome.append("hit" if held else "miss")
        if held:
            peer[r, client]  # uses it
        else:
            put((r, client), size)
    return outcome


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("trace", [zipf(1), scan(2)], ids=["zipf", "scan"])
def test_classic_policies_agree_with_cachetools_row_by_row(name: str, fill: str, trace: pd.DataFrame):
    largest = int(trace["size_bytes"].max())
    for capacity in (4 * largest, 25 * largest):
        found = replay(trace, name, capacity_bytes=capacity, fill=fill, ingest="posthoc")
        assert found.frame["outcome"].tolist() == by_peer(trace, name, capacity, fill), capacity


keys_asked = st.lists(st.integers(0, 12), min_size=1, max_size=60)


@settings(max_examples=60)
@given(asked=keys_asked, name=st.sampled_from(sorted(PEERS)), fill=st.sampled_from(FILLS), capacity=st.integers(1, 9))
def test_they_agree_on_any_trace(asked: list[int], name: str, fill: str, capacity: int):
    trace = pd.DataFrame({"round": [k // 4 for k in asked], "client": [k % 4 for k in asked], "size_bytes": 1})
    found = replay(trace, name, capacity_bytes=capacity, fill=fill, ingest="posthoc")
    assert found.frame["outcome"].tolist() == by_peer(trace, name, capacity, fill)


def test_an_lfu_evicts_the_one_used_longest_ago_of_equals_and_forgets_counts():
    engine = Engine("lfu", capacity=2)
    engine.ingest(U, 1, 0, 1, 2, 3)
    for client in (0, 1, 0, 1, 2):  # both twice; 0 longest ago
        engine.ask_round(1, client)
    assert engine.held(U) == {1: [1, 2]}
    engine.ask_round(1, 0)  # counts from 1 again, as 2 does, which was used before it
    assert engine.held(U) == {1: [0, 1]}


@pytest.mark.parametrize("name", PEERS)
def test_metadata_that_grows_makes_others_leave_although_nobody_asks(name: str):
    engine = Engine(name, capacity=10)
    for round in (1, 2):
        engine.ingest(M, round, 0, size=4)
        engine.ask_round(round, 0, workload="hyperparameters")
    engine.ingest(M, 2, 0, size=8)
    assert engine.rounds(M) == [2]
    assert engine.policy._bytes == engine.state.functions[0].used_bytes == 8


# --- the offline optimum --------------------------------------------------------------------------------------------


def most_hits(asked: tuple[int, ...], capacity: int) -> int:
    """The best that can be had when an object may come in only on its own request, by trying everything."""

    @cache
    def best(at: int, held: frozenset[int]) -> int:
        if at == len(asked):
            return 0
        key = asked[at]
        if key in held:
            return 1 + best(at + 1, held)
        into = [held]
        if len(held) < capacity:
            into.append(held | {key})
        into += [(held - {gone}) | {key} for gone in held]
        return max(best(at + 1, then) for then in into)

    return best(0, frozenset())


@settings(max_examples=80)
@given(asked=st.lists(st.integers(0, 5), min_size=1, max_size=14), capacity=st.integers(1, 3))
def test_belady_hits_as_often_as_anything_could(asked: list[int], capacity: int):
    assert belady(asked, capacity) == most_hits(tuple(asked), capacity)


def belady(asked: list[int], capacity: int, fill: str = "write-around") -> int:
    requests = [
        Requested(i, 0, "clustering", "P2", 1, None, (KeySet.of_round(0, U, 1, [key]),))  # type: ignore[arg-type]
        for i, key in enumerate(asked, start=1)
    ]
    state, policy = State(instant=True), Belady.from_future(requests, fill=fill)
    step(state, policy, FunctionJoined(0, capacity))
    step(state, policy, Ingested(KeySet.of_round(0, U, 1, range(6)), np.ones(6, dtype=np.int64)))
    runs = [step(state, policy, request)[-1] for request in requests]
    return sum(run.counts.hits for run in runs if isinstance(run, Run))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("name", PEERS)
def test_no_classic_policy_beats_belady_with_the_same_fill(name: str, fill: str):
    rng = np.random.default_rng(3)
    for _ in range(5):
        asked = rng.integers(0, 6, size=40).tolist()
        trace = pd.DataFrame({"round": 1, "client": asked})
        everybody = pd.DataFrame({"round": 1, "client": range(6)})
        other = replay(trace, name, capacity_updates=2, fill=fill, participation=everybody)
        assert belady(asked, 2, fill) >= other.hits


def test_belady_says_when_the_future_is_another():
    policy = Belady.from_future([])
    state = State()
    with pytest.raises(PolicyError, match="request 1 is not the one that the future given to 'belady' has here"):
        step(state, policy, Requested(1, 0, "clustering", "P2", 1, None, ()))  # type: ignore[arg-type]


# --- limited, random, static ----------------------------------------------------------------------------------------


def mixed() -> tuple[pd.DataFrame, pd.DataFrame]:
    run = participation_trace(clients=40, per_round=8, rounds=60, seed=1)
    first = run.assign(workload="clustering", request=run["round"])
    second = run.assign(workload="lineage", request=-np.arange(1, len(run) + 1))
    rows = pd.concat([first, second]).sort_values("round", kind="stable")
    return rows, run


@pytest.mark.parametrize(("share", "capacity"), [(0.5, 60), (0.25, 100)])
def test_tailored_limited_is_tailored_with_so_much_less_memory(share: float, capacity: int):
    rows, run = mixed()
    limited = replay(rows, "tailored-limited", capacity_updates=capacity, participation=run, share=share)
    smaller = replay(rows, "tailored", capacity_updates=int(capacity * share), participation=run)
    assert limited.frame["outcome"].tolist() == smaller.frame["outcome"].tolist()
    assert limited.resident_peak_bytes <= capacity * share
    whole = replay(rows, "tailored", capacity_updates=capacity, participation=run)
    assert limited.hits < whole.hits


@pytest.mark.parametrize("policy_class", ["P1", "P2", "P3", "P4"])
def test_static_is_that_class_for_everything(policy_class: str):
    rows, run = mixed()
    found = replay(rows, "static", participation=run, policy_class=policy_class)
    alone = replay(rows, policy_class.lower(), participation=run)
    assert found.frame["outcome"].tolist() == alone.frame["outcome"].tolist()


def test_random_draws_all_classes_from_its_seed_alone():
    rows, run = mixed()
    chosen = policies.make("random", seed=4)
    drawn = [str(chosen._class_of(None)) for _ in range(400)]  # type: ignore[attr-defined]
    assert {c: drawn.count(c) > 60 for c in ("P1", "P2", "P3", "P4")} == dict.fromkeys(("P1", "P2", "P3", "P4"), True)
    outcomes = {
        seed: replay(rows, "random", participation=run, seed=seed).frame["outcome"].tolist() for seed in (1, 1, 2)
    }
    assert outcomes[1] == replay(rows, "random", participation=run, seed=1).frame["outcome"].tolist()
    assert outcomes[1] != outcomes[2]
