"""P2: the rounds from the one that was asked for to the latest."""

from __future__ import annotations

import pandas as pd
import pytest

from flstore.simulator import participation_trace, replay
from flstore.types import NO_CLIENT, KeySet
from tests.policies.held import A, Engine, U


def test_p2_waits_for_the_first_request():
    engine = Engine("p2")
    for round in (1, 2, 3):
        engine.ingest(U, round, 0, 1)
    assert engine.held(U) == {}
    engine.ask_round(2, 1)
    assert engine.held(U) == {2: [0, 1], 3: [0, 1]}
    engine.ingest(U, 4, 5)
    assert engine.rounds(U) == [2, 3, 4]
    engine.ask_round(3, 0)
    assert engine.rounds(U) == [3, 4]


def test_p2_takes_in_a_client_that_comes_late():
    engine = Engine("p2")
    engine.ingest(U, 1, 0)
    engine.ask_round(1, 0)
    engine.ingest(U, 1, 4)
    assert engine.held(U) == {1: [0, 4]}
    engine.ask_round(1, 4)
    assert engine.held(U) == {1: [0, 4]}


@pytest.mark.parametrize(("window", "kept"), [(4, [3, 5, 7]), (3, [3, 5, 7]), (2, [3, 5, 7])])
def test_p2_counts_its_window_in_round_numbers(window: int, kept: list[int]):
    engine = Engine("p2", window=window)
    for round in (1, 3, 5, 7):
        engine.ingest(U, round, 0)
    engine.ask_round(3, 0)
    assert engine.rounds(U) == kept
    engine.ingest(U, 9, 0)  # 6 rounds from the cursor: its own, the next, the latest
    assert engine.rounds(U) == [3, 5, 9]


def test_p2_keeps_everything_up_to_the_latest_at_exactly_the_window():
    engine = Engine("p2", window=4)
    for round in (1, 2, 3, 4, 5):
        engine.ingest(U, round, 0)
    engine.ask_round(1, 0)
    assert engine.rounds(U) == [1, 2, 3, 4, 5]
    engine.ingest(U, 6, 0)
    assert engine.rounds(U) == [1, 2, 6]


def test_p2_goes_back_when_an_earlier_round_is_asked_for():
    engine = Engine("p2")
    for round in (1, 2, 3):
        engine.ingest(U, round, 0)
    engine.ask_round(3, 0)
    assert engine.rounds(U) == [3]
    engine.ask_round(1, 0)
    assert engine.rounds(U) == [1, 2, 3]


def test_p2_keeps_the_aggregates_that_its_requests_read():
    engine = Engine("p2")
    for round in (1, 2):
        engine.ingest(U, round, 0, 1)
        engine.ingest(A, round)
    engine.ask_round(1, 0, 1)
    assert engine.rounds(A) == []
    engine.ask(KeySet.of_round(0, U, 2, [0, 1]), KeySet.of_client(0, A, NO_CLIENT, [1]))
    assert (engine.rounds(U), engine.rounds(A)) == ([2], [1])
    engine.ingest(U, 3, 0)  # starts from aggregate 2, which is there
    assert engine.rounds(A) == [1, 2]
    engine.ingest(A, 3)  # round 4 is not there yet
    assert engine.rounds(A) == [1, 2]
    engine.ingest(U, 4, 0)
    assert engine.rounds(A) == [1, 2, 3]
    engine.ask(KeySet.of_round(0, U, 4, [0]), KeySet.of_client(0, A, NO_CLIENT, [3]))
    assert (engine.rounds(U), engine.rounds(A)) == ([4], [3])


def test_p2_takes_an_aggregate_that_comes_after_the_round_that_starts_from_it():
    engine = Engine("p2")
    engine.ingest(U, 1, 0)
    engine.ingest(A, 0)
    engine.ask(KeySet.of_round(0, U, 1, [0]), KeySet.of_client(0, A, NO_CLIENT, [0]))
    engine.ingest(U, 2, 0)
    assert engine.rounds(A) == [0]
    engine.ingest(A, 1)
    assert engine.rounds(A) == [0, 1]


def test_p2_has_a_cursor_for_each_workload_and_each_job():
    engine = Engine("p2")
    for job in (0, 1):
        for round in (1, 2, 3):
            engine.ingest(U, round, 0, job=job)
    engine.ask_round(3, 0)
    engine.ask_round(2, 0, workload="malicious_filtering")
    engine.ask_round(3, 0, job=1)
    assert (engine.rounds(U), engine.rounds(U, job=1)) == ([2, 3], [3])
    engine.ask_round(3, 0, workload="malicious_filtering")
    assert engine.rounds(U) == [3]


def test_two_workloads_of_which_one_lags_miss_only_their_first_rounds():
    trace = participation_trace(clients=250, per_round=10, rounds=100, seed=6)
    first = trace.assign(workload="clustering", when=trace["round"] * 2)
    second = trace.assign(workload="malicious_filtering", when=trace["round"] * 2 + 7)  # three rounds later
    rows = pd.concat([first, second]).sort_values("when", kind="stable").drop(columns="when")
    rows["request"] = rows["workload"] + rows["round"].astype(str)
    outcome = replay(rows, "p2")
    assert (outcome.hits, outcome.misses) == (1980, 20)
    missed = outcome.frame[outcome.frame["outcome"] == "miss"]
    assert set(zip(missed["workload"], missed["round"], strict=True)) == {("clustering", 1), ("malicious_filtering", 1)}


def test_one_early_request_does_not_keep_the_whole_run_in_memory():
    trace = participation_trace(clients=50, per_round=10, rounds=300, seed=1)
    early = trace[trace["round"] == 1].assign(request=1, workload="clustering")
    # Somebody asks for metadata at the end, so that all rounds are ingested.
    last = trace[trace["round"] == 300].assign(request=2, workload="hyperparameters")
    outcome = replay(pd.concat([early, last]), "p2", participation=trace)
    assert outcome.resident_peak_bytes == 110  # the window and the round that was asked for
