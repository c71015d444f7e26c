"""Replays against the brute-force model: the same counts, and the same outcome for every row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flstore.simulator import participation_trace, replay
from tests.simulator.reference import classify, classify_lru

CLASSES = ["p1", "p2", "p3", "p4", "tailored"]
FILLS = ["write-around", "write-allocate"]
WORKLOADS = ["clustering", "malicious_filtering", "lineage", "hyperparameters", "inference"]


def assert_as_reference(requests: pd.DataFrame, policy: str, **options: Any) -> None:
    expected = classify(requests, policy, **options)
    outcome = replay(requests, policy, **options)
    assert outcome.frame["outcome"].tolist() == expected
    assert (outcome.hits, outcome.late_hits, outcome.misses) == (expected.count("hit"), 0, expected.count("miss"))


def assert_lru_as_reference(requests: pd.DataFrame, capacity: int, fill: str, **options: Any) -> None:
    expected = classify_lru(requests, capacity, fill, **options)
    outcome = replay(requests, "lru", capacity_updates=capacity, fill=fill, **options)
    assert outcome.frame["outcome"].tolist() == expected
    assert (outcome.hits, outcome.misses) == (expected.count("hit"), expected.count("miss"))


def uniform() -> pd.DataFrame:
    return participation_trace(clients=12, per_round=4, rounds=26, seed=5)


def shuffled() -> pd.DataFrame:
    return uniform().sample(frac=1.0, random_state=2)  # the index is shuffled with the rows, on purpose


def gapped(step: int) -> pd.DataFrame:
    return uniform().assign(round=lambda t: t["round"] * step)


def two_jobs() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    jobs = [participation_trace(9, 3, 20, seed).assign(job=f"job {seed}") for seed in (0, 1)]
    rows = pd.concat(jobs, ignore_index=True)
    return rows.iloc[rng.permutation(len(rows))].sort_values("round", kind="stable")


def lagging_workloads() -> pd.DataFrame:
    """Five workloads on one training run, each some rounds behind the one before it."""
    trace = participation_trace(clients=9, per_round=3, rounds=24, seed=11)
    parts = []
    for lag, workload in enumerate(WORKLOADS):
        parts.append(trace.assign(workload=workload, when=trace["round"] + 3 * lag))
    return pd.concat(parts).sort_values("when", kind="stable").drop(columns="when").reset_index(drop=True)


def grouped() -> pd.DataFrame:
    return uniform().assign(request=lambda t: t["round"])


def grouped_apart() -> pd.DataFrame:
    """Requests over two rounds, whose rows lie between those of others."""
    return shuffled().assign(request=lambda t: [f"r{r // 2}" for r in t["round"]])


def named_clients() -> pd.DataFrame:
    return shuffled().assign(client=lambda t: [f"hospital-{c}" for c in t["client"]])


TRACES = {
    "uniform": uniform,
    "shuffled": shuffled,
    "every third round": lambda: gapped(3),
    "every 17th round": lambda: gapped(17),
    "two jobs": two_jobs,
    "lagging workloads": lagging_workloads,
    "grouped": grouped,
    "grouped apart": grouped_apart,
    "string ids": named_clients,
}


@pytest.mark.parametrize("ingest", ["online", "posthoc"])
@pytest.mark.parametrize("policy", CLASSES)
@pytest.mark.parametrize("trace", TRACES)
def test_every_row_is_as_the_rules_say(trace: str, policy: str, ingest: str):
    requests = TRACES[trace]()
    if "workload" not in requests:
        workload = {"p1": "inference", "p3": "lineage", "p4": "hyperparameters"}.get(policy, "clustering")
        requests = requests.assign(workload=workload)
    assert_as_reference(requests, policy, ingest=ingest)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("capacity", [1, 4, 9])
@pytest.mark.parametrize("trace", TRACES)
def test_every_row_of_lru_is_as_an_ordered_dict_says(trace: str, capacity: int, fill: str):
    for ingest in ("online", "posthoc"):
        assert_lru_as_reference(TRACES[trace](), capacity, fill, ingest=ingest)


@pytest.mark.parametrize("policy", CLASSES)
def test_rounds_and_clients_that_nobody_asks_for_are_ingested_too(policy: str):
    wide = participation_trace(clients=15, per_round=5, rounds=60, seed=4)
    asked = wide[(wide["round"] % 3 == 0) & (wide["client"] < 8)].assign(
        workload=lambda t: [WORKLOADS[r % len(WORKLOADS)] for r in t["round"]]
    )
    assert_as_reference(asked, policy, participation=wide)
    assert_as_reference(asked, policy, participation=wide, ingest="posthoc")


def test_a_round_that_nobody_asks_for_comes_before_the_next_that_is():
    wide = pd.DataFrame({"round": [1, 2, 3], "client": [7, 7, 7]})
    asked = pd.DataFrame({"round": [1, 3], "client": [7, 7], "workload": "lineage"})
    # After round 1 the client's next participation is round 2, and round 3 must wait until somebody asks for it.
    assert replay(asked, "p3", participation=wide).frame["outcome"].tolist() == ["miss", "miss"]
    assert replay(asked, "p3").frame["outcome"].tolist() == ["miss", "hit"]


def test_loads_and_resident_bytes_of_a_small_trace():
    trace = pd.DataFrame({"round": [1, 1, 2, 2], "client": [0, 1, 0, 2], "size_bytes": [5, 7, 11, 13]})
    outcome = replay(trace, "p2")
    assert outcome.frame["outcome"].tolist() == ["miss", "hit", "hit", "hit"]
    assert outcome.loads == 2  # round 1 was there before the cursor; round 2 was kept as it came in
    assert outcome.resident_peak_bytes == 5 + 7 + 11 + 13  # rounds 1 and 2, before round 2 is asked for


def test_counts_by_a_column_add_up():
    trace = uniform().assign(workload=["clustering", "hyperparameters"] * 52)
    outcome = replay(trace, "tailored")
    table = outcome.by("workload")
    assert table.loc["hyperparameters", ["hit", "late", "miss"]].tolist() == [52, 0, 0]
    assert table.loc["clustering", ["hit", "late", "miss"]].tolist() == [51, 0, 1]
    assert table.loc["clustering", "hit_ratio"] == 51 / 52
    assert outcome.total == 104
    assert outcome.hit_ratio == 103 / 104


def test_the_callers_frames_stay_as_they_were():
    requests, wide = shuffled(), uniform()
    before = requests.copy(), wide.copy()
    frame = replay(requests, "tailored", participation=wide).frame
    pd.testing.assert_frame_equal(requests, before[0])
    pd.testing.assert_frame_equal(wide, before[1])
    pd.testing.assert_frame_equal(frame.drop(columns="outcome"), before[0])


# --- small traces of any shape --------------------------------------------------------------------------------------


@st.composite
def traces(draw: st.DrawFn) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Requests of one to three rows, their rows sometimes interleaved, with or without a wider participation."""
    rounds = st.sampled_from(draw(st.sampled_from([range(1, 7), range(0, 40, 5), range(3, 60, 7)])))
    jobs = st.sampled_from(["a", "b"][: draw(st.integers(1, 2))])
    access = st.tuples(rounds, st.integers(0, 4))
    request = st.tuples(jobs, st.sampled_from(WORKLOADS), st.lists(access, min_size=1, max_size=3))
    rows = [
        {"job": job, "workload": workload, "round": r, "client": c, "request": number}
        for number, (job, workload, accesses) in enumerate(draw(st.lists(request, min_size=1, max_size=14)))
        for r, c in accesses
    ]
    if draw(st.booleans()):
        rows = draw(st.permutations(rows))
    requests = pd.DataFrame(rows)
    if not draw(st.booleans()):
        return requests, None
    more = [{"job": j, "round": r, "client": c} for j, (r, c) in draw(st.lists(st.tuples(jobs, access), max_size=12))]
    wide = pd.concat([requests[["job", "round", "client"]], pd.DataFrame(more, columns=["job", "round", "client"])])
    wide = wide.astype({"round": np.int64}).drop_duplicates()
    return requests, wide.sort_values(["job", "round"], kind="stable", ignore_index=True)


@settings(max_examples=150)
@given(trace=traces(), policy=st.sampled_from(CLASSES), ingest=st.sampled_from(["online", "posthoc"]))
def test_any_small_trace_is_as_the_rules_say(trace: tuple[Any, Any], policy: str, ingest: str):
    assert_as_reference(trace[0], policy, participation=trace[1], ingest=ingest)


@settings(max_examples=100)
@given(
    trace=traces(),
    capacity=st.integers(1, 8),
    fill=st.sampled_from(FILLS),
    ingest=st.sampled_from(["online", "posthoc"]),
)
def test_lru_on_any_small_trace_is_as_an_ordered_dict_says(
    trace: tuple[Any, Any], capacity: int, fill: str, ingest: str
):
    assert_lru_as_reference(trace[0], capacity, fill, participation=trace[1], ingest=ingest)
