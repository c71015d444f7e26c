"""Participation and request traces: what they promise about who takes part and who asks when."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.simulator import mixes, oort_trace, participation_trace, refl_trace, replay, with_dropouts

MAKERS = {"uniform": participation_trace, "oort": oort_trace, "refl": refl_trace}


@pytest.mark.parametrize("maker", MAKERS)
@settings(max_examples=25)
@given(clients=st.integers(1, 40), rounds=st.integers(1, 12), seed=st.integers(0, 99), share=st.floats(0, 1))
def test_any_participation_is_sorted_without_repetition_and_by_its_seed(
    maker: str, clients: int, rounds: int, seed: int, share: float
):
    per_round = max(1, int(share * clients))
    trace = MAKERS[maker](clients, per_round, rounds, seed)
    assert trace.dtypes.tolist() == [np.dtype(np.int64)] * 2
    assert not trace.duplicated().any()
    assert trace.equals(trace.sort_values(["round", "client"], ignore_index=True))
    assert trace["client"].between(0, clients - 1).all()
    sizes = trace.groupby("round").size()
    assert (sizes == per_round).all() if maker != "refl" else (sizes <= per_round).all()
    assert trace.equals(MAKERS[maker](clients, per_round, rounds, seed))
    if len(trace):
        replay(trace, "tailored")  # is a trace


def test_oort_takes_some_clients_far_more_often_and_explores_the_rest():
    skewed = oort_trace(200, 10, 200, seed=0, skew=1.5)["client"].value_counts()
    even = participation_trace(200, 10, 200, seed=0)["client"].value_counts()
    assert skewed.iloc[0] > 2 * even.iloc[0]
    assert len(skewed) > 150
    assert oort_trace(200, 10, 200, seed=0, exploration=0.0)["client"].nunique() < len(skewed)


def test_refl_prefers_who_is_rarely_there_and_takes_nobody_who_is_away():
    trace = refl_trace(clients=400, per_round=5, rounds=200, seed=3, rounds_a_day=100, available=0.3)
    day = trace.assign(day=(trace["round"] - 1) // 100, at=(trace["round"] - 1) % 100)
    first, second = (set(zip(d["at"], d["client"], strict=True)) for _, d in day.groupby("day"))
    assert first & second  # the same hours on every day
    spans = day.groupby("client")["at"].nunique()
    assert spans.max() < 60  # the always available are not needed


def test_dropouts_leave_rows_out_and_the_frame_as_it_was():
    whole = participation_trace(30, 10, 50, seed=0)
    before = whole.copy()
    left = with_dropouts(whole, 0.3, seed=1)
    assert 300 < len(left) < 400
    assert left.merge(whole).equals(left)
    assert whole.equals(before)
    assert with_dropouts(whole, 0.0, seed=1).equals(whole)
    with pytest.raises(InvalidParameterError, match=r"below 1, got 1\.0"):
        with_dropouts(whole, 1.0, seed=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: oort_trace(5, 2, 3, 0, skew=-1.0), r"skew=-1\.0"),
        (lambda t: refl_trace(5, 2, 3, 0, available=1.0), r"available=1\.0"),
        (lambda t: mixes.online(t, lag=-1), "got -1"),
        (lambda t: mixes.several(t, {}), "at least one workload"),
        (lambda t: mixes.debugging(t, bursts=0, seed=0), "bursts=0"),
        (lambda t: mixes.together(t), "no column 'workload'"),
        (lambda t: mixes.jobs({}), "at least one trace"),
        (lambda t: mixes.online(t.iloc[::-1]), "rounds must ascend"),
        (lambda t: mixes.online(pd.concat([t.iloc[:1], t])), "a second time"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, message: str):
    with pytest.raises(InvalidParameterError, match=message):
        call(participation_trace(5, 2, 3, seed=0))


def test_an_unknown_workload_is_named_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'lineage'"):
        mixes.online(participation_trace(5, 2, 3, seed=0), "lineag")


@pytest.mark.parametrize(("lag", "hits"), [(0, 40), (9, 40), (10, 0)])
def test_a_lag_is_counted_in_rounds_that_exist(lag: int, hits: int):
    """P4 keeps ten rounds: a request nine rounds late finds its own, and one later does not."""
    trace = participation_trace(20, 4, 20, seed=1)
    frame = replay(mixes.online(trace, "hyperparameters", lag=lag), "p4", participation=trace).frame
    early = frame[frame["after"] == frame["round"] + lag].head(40)
    assert (early["outcome"] == "hit").sum() == hits


def test_several_workloads_find_what_the_first_one_brought():
    trace = participation_trace(20, 4, 20, seed=1)
    rows = mixes.several(trace, {"clustering": 0, "contribution": 0, "incentives": 0})
    outcome = replay(rows, "lru", capacity_updates=4, participation=trace)
    assert outcome.hit_ratio == pytest.approx(2 / 3)  # (k - 1) / k of analysis.md
    assert rows.groupby("request")["workload"].nunique().eq(1).all()
    assert rows["after"].is_monotonic_increasing


def test_a_scan_after_the_end_hits_nothing_in_a_classic_cache():
    trace = participation_trace(20, 4, 20, seed=1)
    assert replay(mixes.posthoc(trace), "lru", capacity_updates=40, participation=trace).hits == 0


def test_bursts_ask_again_for_rounds_near_each_other_that_exist():
    trace = participation_trace(20, 4, 60, seed=1)
    rows = mixes.debugging(trace, bursts=5, seed=2, length=8, back=10)
    requests = rows.groupby("request").agg(round=("round", "first"), after=("after", "first"), n=("client", "size"))
    assert len(requests) == 40
    assert (requests["round"] <= requests["after"]).all()
    assert (requests["n"] == 4).all()
    assert (requests.groupby("after")["round"].apply(lambda r: r.diff().abs().max()) <= 10).all()
    assert requests["round"].duplicated().any()
    assert replay(rows, "lru", capacity_updates=12, participation=trace).hits > 0


def test_jobs_stand_side_by_side_and_share_nothing():
    parts = {name: participation_trace(20, 4, 10, seed) for name, seed in (("a", 0), ("b", 1))}
    asked = mixes.jobs({name: mixes.online(trace, lag=1) for name, trace in parts.items()})
    both = replay(asked, "tailored", participation=mixes.jobs(parts))
    alone = [replay(mixes.online(t, lag=1), "tailored", participation=t) for t in parts.values()]
    assert (both.hits, both.misses) == (sum(o.hits for o in alone), sum(o.misses for o in alone))
    assert both.by("job")["hit"].tolist() == [o.hits for o in alone]


def test_following_a_client_misses_its_first_update_alone():
    trace = participation_trace(20, 4, 40, seed=1)
    client = int(trace["client"].iloc[0])
    outcome = replay(mixes.lineage(trace, [client], lag=2), "p3", participation=trace)
    assert outcome.misses <= 2
    assert outcome.hits > 0
    assert set(outcome.frame["client"]) == {client}
