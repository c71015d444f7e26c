"""What a trace must be, and what is said about one that is not."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flstore.errors import FLStoreError, InvalidParameterError, PolicyError, UnknownNameError
from flstore.policies import P2
from flstore.simulator import participation_trace, replay
from flstore.types import Requested


def rows(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"round": [1, 1, 2], "client": [0, 1, 0], **columns})


def test_a_participation_trace_is_drawn_without_replacement_and_by_its_seed():
    trace = participation_trace(clients=7, per_round=4, rounds=50, seed=12)
    assert trace.columns.tolist() == ["round", "client"]
    assert trace.dtypes.tolist() == [np.dtype(np.int64)] * 2
    assert trace["round"].tolist() == [r for r in range(1, 51) for _ in range(4)]
    assert (trace.groupby("round")["client"].nunique() == 4).all()
    assert set(trace["client"]) == set(range(7))
    assert trace.equals(trace.sort_values(["round", "client"]))
    assert trace.equals(participation_trace(clients=7, per_round=4, rounds=50, seed=12))
    assert not trace.equals(participation_trace(clients=7, per_round=4, rounds=50, seed=13))


@pytest.mark.parametrize(
    "sizes", [(0, 1, 1), (5, 0, 1), (5, 6, 1), (5, 5, 0), (-1, -1, 1)], ids=lambda s: "-".join(map(str, s))
)
def test_a_participation_trace_of_impossible_size_is_refused(sizes: tuple[int, int, int]):
    clients, per_round, rounds = sizes
    with pytest.raises(InvalidParameterError, match=f"per_round={per_round}"):
        participation_trace(clients=clients, per_round=per_round, rounds=rounds, seed=0)


@pytest.mark.parametrize("column", ["round", "client"])
def test_a_missing_column_is_named_and_those_that_exist_are_listed(column: str):
    trace = rows().drop(columns=column).assign(weather="fine")
    with pytest.raises(InvalidParameterError, match=f"requests has no column '{column}'.*weather"):
        replay(trace, "p2")
    with pytest.raises(InvalidParameterError, match=f"participation has no column '{column}'"):
        replay(rows(), "p2", participation=trace)


@pytest.mark.parametrize("bad", [[1.0, 1.5, 2.0], ["1", "1", "2"], [1, -1, 2], [True, True, False]], ids=str)
def test_rounds_are_integers_from_zero_on(bad: list[Any]):
    with pytest.raises(InvalidParameterError, match="'round' of requests"):
        replay(rows().assign(round=bad), "p2")
    with pytest.raises(InvalidParameterError, match="'round' of participation"):
        replay(rows(), "p2", participation=rows().assign(round=bad))


def test_round_zero_is_a_round():
    outcome = replay(rows().assign(round=[0, 0, 1]), "p2")
    assert outcome.frame["outcome"].tolist() == ["miss", "hit", "hit"]


@pytest.mark.parametrize("bad", [[1, 0, 1], [1, -3, 1], [1.0, 2.5, 1.0], ["1", "1", "1"], [1, None, 1]], ids=str)
def test_sizes_are_positive_integers(bad: list[Any]):
    with pytest.raises(InvalidParameterError, match="'size_bytes' of requests"):
        replay(rows(size_bytes=bad), "p2")


@pytest.mark.parametrize("column", ["round", "client", "job", "workload", "request"])
def test_empty_values_are_refused_and_their_column_named(column: str):
    trace = rows(job="j", workload="clustering", request=[1, 2, 3]).astype(object)
    trace.loc[1, column] = None
    with pytest.raises(FLStoreError, match=column):
        replay(trace.assign(round=trace["round"] if column == "round" else [1, 1, 2]), "p2")


def test_sizes_of_a_participation_decide_what_fits():
    wide = rows(size_bytes=[4, 6, 10])
    outcome = replay(rows(), "lru", participation=wide, capacity_bytes=10)
    assert outcome.resident_peak_bytes == 10
    with pytest.raises(InvalidParameterError, match=r"capacity_bytes=9.*10 bytes"):
        replay(rows(), "lru", participation=wide, capacity_bytes=9)


def test_sizes_of_the_requests_count_when_the_participation_says_none():
    outcome = replay(rows(size_bytes=[4, 6, 10]), "p2", participation=rows())
    assert outcome.resident_peak_bytes == 20


def test_an_unknown_workload_is_named_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"'clusterin'.*Did you mean 'clustering'"):
        replay(rows(workload="clusterin"), "p2")


def test_an_unknown_policy_is_named_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"'tailord'.*Did you mean 'tailored'"):
        replay(rows(), "tailord")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity_updates": 5, "capacity_bytes": 5}, "not both"),
        ({"capacity_updates": 0}, "capacity_updates must be at least 1, got 0"),
        ({"capacity_updates": -4}, "capacity_updates must be at least 1, got -4"),
        ({"capacity_bytes": 0}, re.escape("capacity_bytes=0 is below the largest update (1 bytes)")),
        ({"fill": "write-back"}, "fill must be .* got 'write-back'"),
        ({"ingest": "offline"}, "ingest must be .* got 'offline'"),
        ({"windows": 3}, "no parameter 'windows'"),
        ({"window": 0}, "window must be at least 1"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(InvalidParameterError, match=message):
        replay(rows(), "p2", **options)


def test_parameters_reach_the_policy_by_name_and_are_refused_for_an_instance():
    once = pd.DataFrame({"round": [1], "client": [0]})
    four = pd.DataFrame({"round": [1, 2, 3, 4], "client": [0, 0, 0, 0]})
    assert replay(once, "p2", participation=four, ingest="posthoc").loads == 4
    assert replay(once, "p2", participation=four, ingest="posthoc", window=2).loads == 3  # not round 3
    assert replay(once, P2(window=2), participation=four, ingest="posthoc").loads == 3
    with pytest.raises(InvalidParameterError, match="window"):
        replay(once, P2(), window=1)


def test_one_request_has_one_workload_and_one_job():
    with pytest.raises(InvalidParameterError, match=r"one request.*clustering.*lineage"):
        replay(rows(workload=["lineage", "clustering", "lineage"], request=[1, 1, 2]), "p2")
    with pytest.raises(InvalidParameterError, match="one request"):
        replay(rows(job=["a", "b", "a"], request=[1, 1, 2]), "p2")


def test_who_does_not_take_part_cannot_be_asked_for():
    wide = pd.DataFrame({"round": [1, 1, 2], "client": [0, 1, 1]})
    with pytest.raises(InvalidParameterError, match="row 2 asks for client 0 in round 2"):
        replay(rows(), "p2", participation=wide)
    with pytest.raises(InvalidParameterError, match="row 0"):
        replay(rows(job="other"), "p2", participation=rows(job="this"))


def test_a_trace_is_a_data_frame():
    with pytest.raises(InvalidParameterError, match="list"):
        replay([(1, 0)], "p2")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "empty",
    [rows().iloc[:0], pd.DataFrame({"round": [], "client": []}), pd.DataFrame(columns=["round", "client"])],
    ids=["typed", "float", "object"],
)
@pytest.mark.parametrize("policy", ["tailored", "lru"])
def test_nothing_asked_is_nothing_found(empty: pd.DataFrame, policy: str):
    outcome = replay(empty, policy, capacity_updates=3)
    assert (outcome.hits, outcome.late_hits, outcome.misses, outcome.loads) == (0, 0, 0, 0)
    assert np.isnan(outcome.hit_ratio)
    assert outcome.frame.columns.tolist() == ["round", "client", "outcome"]


def test_a_frame_without_columns_is_told_what_it_lacks():
    with pytest.raises(InvalidParameterError, match="'round'"):
        replay(pd.DataFrame(), "p2")


# --- what cannot be a participation ---------------------------------------------------------------------------------


def test_rounds_of_a_participation_that_go_back_are_named_with_the_way_out():
    wide = pd.DataFrame({"round": [1, 2, 1], "client": [0, 0, 1]})
    with pytest.raises(InvalidParameterError, match=r"row 2 of participation goes back to round 1.*sort_values"):
        replay(rows(), "p2", participation=wide)
    assert replay(rows(), "p2", participation=wide.sort_values(["round"], kind="stable")).total == 3


def test_rounds_of_one_job_may_follow_those_of_another():
    wide = pd.DataFrame({"job": ["a", "a", "b", "b"], "round": [1, 2, 1, 2], "client": 0})
    assert replay(wide, "p2", participation=wide).total == 4
    with pytest.raises(InvalidParameterError, match=r"row 3 of participation goes back to round 1.*'job', 'round'"):
        replay(wide, "p2", participation=wide.iloc[[0, 2, 3, 2]])


@pytest.mark.parametrize("client", [0, "clinic"])
def test_a_client_that_takes_part_twice_in_a_round_is_named_with_the_way_out(client: Any):
    wide = pd.DataFrame({"round": [1, 1, 1], "client": [client, 1 if client == 0 else "other", client]})
    with pytest.raises(
        InvalidParameterError, match=rf"row 2 .*client {client} in round 1 a second time.*drop_duplicates"
    ):
        replay(wide.iloc[:2], "p2", participation=wide)
    assert replay(wide, "p2", participation=wide.drop_duplicates()).total == 3  # asking twice is no mistake


def test_the_row_and_the_value_of_a_wrong_size_are_named():
    with pytest.raises(InvalidParameterError, match="must hold positive integers, got -3 in row 1"):
        replay(rows(size_bytes=[1, -3, 1]), "p2")
    with pytest.raises(InvalidParameterError, match="must hold positive integers, got 0 in row 2"):
        replay(rows(), "p2", participation=rows(size_bytes=[1, 1, 0]))


def test_memory_below_one_update_is_refused_with_the_other_way_to_say_it():
    with pytest.raises(InvalidParameterError, match=r"capacity_bytes=9 .* \(10 bytes\).*capacity_updates"):
        replay(rows(size_bytes=10), "lru", capacity_bytes=9)


def test_requests_that_do_not_come_in_the_order_of_their_times_are_named():
    with pytest.raises(InvalidParameterError, match=r"row 2 of requests arrives at 1\.0 s.*sort_values"):
        replay(rows(arrival_s=[0.0, 2.0, 1.0]), "p2")
    with pytest.raises(InvalidParameterError, match="'arrival_s' of requests must hold seconds"):
        replay(rows(arrival_s=pd.to_datetime(["2026-01-01"] * 3)), "p2")


def test_a_policy_that_fails_is_named_with_the_event():
    class Failing(P2):
        name = "failing"

        def decide(self, event, view):
            if isinstance(event, Requested) and event.request == 3:
                raise ZeroDivisionError("no")
            return super().decide(event, view)

    with pytest.raises(PolicyError, match=r"'failing' raised ZeroDivisionError.*Requested\(request=3"):
        replay(rows(request=[1, 2, 3]), Failing())
