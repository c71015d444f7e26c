"""Table 3 of the paper, exactly, on the trace of section 5.5: ten of 250 clients in each of 2000 rounds."""

from __future__ import annotations

import random

import pandas as pd
import pytest

from flstore.simulator import participation_trace, replay

FULL, SHORT = 2000, 200
DRAWN = random.SystemRandom().randrange(2**31)  # a new one in every run, printed when a test fails
SIZES = [
    pytest.param((SHORT, 1), id="short-seed1"),
    pytest.param((SHORT, DRAWN), id="short-drawn"),
    pytest.param((FULL, 0), id="full-seed0"),
    pytest.param((FULL, 1), id="full-seed1", marks=pytest.mark.slow),
    pytest.param((FULL, DRAWN), id="full-drawn", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=SIZES)
def trace(request: pytest.FixtureRequest) -> pd.DataFrame:
    rounds, seed = request.param
    print(f"trace of {rounds} rounds with seed {seed}")
    return participation_trace(clients=250, per_round=10, rounds=rounds, seed=seed)


def counts(requests: pd.DataFrame, policy: str = "tailored", **options: object) -> tuple[int, int, int]:
    outcome = replay(requests, policy, **options)  # type: ignore[arg-type]
    return outcome.hits, outcome.late_hits, outcome.misses


def test_p2_misses_one_access(trace: pd.DataFrame):
    outcome = replay(trace.assign(workload="clustering"), "tailored")
    assert (outcome.hits, outcome.late_hits, outcome.misses) == (len(trace) - 1, 0, 1)
    assert outcome.frame["outcome"].iloc[0] == "miss"
    assert outcome.resident_peak_bytes == 20  # two rounds, never more


def test_p2_misses_one_request_of_ten(trace: pd.DataFrame):
    whole = trace.assign(workload="clustering", request=trace["round"])
    assert counts(whole) == (len(trace) - 10, 0, 10)


def test_p3_misses_the_first_access_of_a_client(trace: pd.DataFrame):
    rounds = trace.groupby("client").size().sort_values()
    for client in (rounds.index[0], rounds.index[len(rounds) // 2], rounds.index[-1]):
        own = trace[trace["client"] == client].assign(workload="lineage")
        for ingest in ("online", "posthoc"):
            assert counts(own, participation=trace, ingest=ingest) == (len(own) - 1, 0, 1), (client, ingest)


def test_p4_misses_nothing(trace: pd.DataFrame):
    assert counts(trace.assign(workload="hyperparameters")) == (len(trace), 0, 0)


def test_lru_filled_on_demand_hits_nothing(trace: pd.DataFrame):
    assert counts(trace, "lru", capacity_updates=20) == (0, 0, len(trace))


def test_lru_filled_on_ingest_misses_nothing(trace: pd.DataFrame):
    assert counts(trace, "lru", capacity_updates=10, fill="write-allocate") == (len(trace), 0, 0)


def test_lru_filled_on_ingest_one_update_short_hits_nothing_at_all():
    """The order of a round's accesses is the order of its ingest: LRU's worst case when one place is missing."""
    trace = participation_trace(clients=250, per_round=10, rounds=50, seed=0)
    assert counts(trace, "lru", capacity_updates=9, fill="write-allocate") == (0, 0, 500)


@pytest.mark.parametrize(("lag", "outcome"), [(0, "hit"), (9, "hit"), (10, "miss")])
def test_p4_serves_requests_up_to_nine_rounds_late(lag: int, outcome: str):
    trace = participation_trace(clients=50, per_round=5, rounds=40, seed=2).assign(workload="hyperparameters")
    rows = []
    for newest in range(1, 41):
        arriving = trace[trace["round"] == newest].iloc[:1]  # asked for only so that its round is ingested
        rows += [arriving.assign(late=False), trace[trace["round"] == newest - lag].assign(late=True)]
    frame = replay(pd.concat(rows, ignore_index=True), "p4", participation=trace).frame
    assert frame[frame["late"]]["outcome"].tolist() == [outcome] * 5 * (40 - lag)


def test_a_second_reading_after_the_run_hits_nothing_that_was_let_go():
    """Post hoc, P2 hits all but its first round on the way through, and starts over at the beginning."""
    trace = participation_trace(clients=50, per_round=5, rounds=30, seed=2).assign(request=lambda t: t["round"])
    twice = pd.concat([trace, trace.assign(request=trace["request"] + 30)], ignore_index=True)
    frame = replay(twice, "p2", ingest="posthoc").frame
    missed = frame[frame["outcome"] == "miss"]
    assert missed["request"].tolist() == [1] * 5 + [31] * 5
