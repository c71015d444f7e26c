"""Traces of what happened: a live store's log, and request logs in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flstore import FLStore
from flstore.engine import EventLog
from flstore.errors import FLStoreError, InvalidParameterError, UnknownNameError
from flstore.simulator import participation_trace, read_requests, record, replay, replay_log
from tests.store.conftest import fill

ROUNDS = range(1, 6)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The log of a live run, its requests as the store counted them, and the log's file."""
    path = tmp_path_factory.mktemp("live")
    with FLStore.local(functions=1, memory="64MiB", root=str(path / "data"), policy="tailored") as store:
        for r in ROUNDS:
            fill(store, range(r, r + 1))
            store.flush()  # so that nothing is late
            store.request("clustering", round=r, k=2)
            store.request("hyperparameters", round=r)
            store.request("lineage", round=r, client="c1")
        store.request("clustering", round=2, k=2)
        requests = store.requests
        store.log.save(path / "log.jsonl")
        yield store.log, requests, path / "log.jsonl"


def test_replaying_the_log_with_its_own_policy_finds_what_the_store_counted(live: Any):
    log, requests, path = live
    for source in (log, path, str(path)):
        found = replay_log(source, "tailored")
        assert (found.hits, found.misses) == (requests["hits"].sum(), requests["misses"].sum())
        by_request = found.frame.assign(hit=found.frame["outcome"] == "hit").groupby("request")["hit"].sum()
        assert by_request.tolist() == requests["hits"].tolist()


def test_another_policy_can_be_tried_on_the_same_requests(live: Any):
    log, requests, _ = live
    lru, small = replay_log(log, "lru"), replay_log(log, "lru", capacity_bytes=10_000)
    assert lru.total == small.total == requests[["hits", "late_hits", "misses"]].sum().sum()
    assert small.hits < lru.hits < replay_log(log, "tailored").hits
    assert small.resident_peak_bytes <= 10_000


def test_a_recording_is_a_trace_with_the_same_counts(live: Any):
    log, requests, _ = live
    recording = record(log)
    assert recording.participation.groupby("round").size().tolist() == [5] * len(ROUNDS)
    assert recording.requests["request"].nunique() == len(requests)
    found = recording.replay("tailored")
    asked = requests[["hits", "misses"]].sum().sum()
    aggregates = int((replay_log(log, "tailored").frame["kind"] == 1).sum())
    assert found.total == asked - aggregates
    assert found.by("workload").loc["hyperparameters", "miss"] == 0
    assert recording.replay("lru", capacity_updates=1).hits < found.hits


def test_a_log_without_requests_is_an_empty_trace():
    recording = record(EventLog())
    assert len(recording.requests) == len(recording.participation) == 0
    assert recording.replay("tailored").total == 0
    assert replay_log(EventLog(), "lru").total == 0


def test_what_has_no_log_is_named():
    with pytest.raises(InvalidParameterError, match="got dict"):
        record({})


# --- request logs in files ------------------------------------------------------------------------------------------

PART = participation_trace(20, 4, 6, seed=0)


def test_a_csv_with_time_stamps_is_a_trace(tmp_path: Path):
    path = tmp_path / "requests.csv"
    first, second = PART.loc[PART["round"] == 2, "client"].iloc[:2]
    path.write_text(
        "received_at,round,client,workload\n"
        "2026-01-01T00:00:30Z,3,,clustering\n"
        f"2026-01-01T00:00:00Z,2,{first},lineage\n"
        f"2026-01-01T00:01:00Z,2,{second},lineage\n"
    )
    rows = read_requests(path, PART, columns={"time": "received_at"})
    assert rows["request"].tolist() == [0, 1, 1, 1, 1, 2]
    assert rows["arrival_s"].tolist() == [0.0, 30.0, 30.0, 30.0, 30.0, 60.0]
    assert rows["client"].tolist() == [first, *PART.loc[PART["round"] == 3, "client"], second]
    found = replay(rows, "tailored", participation=PART, link="s3-same-region")
    assert found.requests is not None
    assert found.requests["arrival_s"].tolist() == [0.0, 30.0, 60.0]


def test_parquet_holds_the_same(tmp_path: Path):
    table = pd.DataFrame({"arrival_s": [5.0, 1.0], "round": [1, 2]})
    table.to_parquet(tmp_path / "requests.parquet")
    rows = read_requests(tmp_path / "requests.parquet", PART)
    pd.testing.assert_frame_equal(rows, read_requests(table, PART))
    assert rows["round"].tolist() == [2] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"round": [1]}, InvalidParameterError, "neither 'arrival_s' nor 'time'"),
        ({"arrival_s": [1.0]}, InvalidParameterError, "no column 'round'.*columns="),
        ({"arrival_s": [1.0], "round": [77]}, InvalidParameterError, "round 77, in which nobody takes part"),
        ({"arrival_s": ["soon"], "round": [1]}, InvalidParameterError, "row 0 .* no time of arrival"),
        ({"time": ["soon"], "round": [1]}, InvalidParameterError, "holds what is no time"),
        ({"arrival_s": [1.0], "round": [1], "workload": ["linage"]}, UnknownNameError, "Did you mean 'lineage'"),
    ],
)
def test_a_log_that_cannot_be_is_refused_by_name(table: dict[str, Any], error: type[FLStoreError], message: str):
    with pytest.raises(error, match=message):
        read_requests(pd.DataFrame(table), PART)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(InvalidParameterError, match=r"none\.csv cannot be read"):
        read_requests(tmp_path / "none.csv", PART)
    with pytest.raises(InvalidParameterError, match=r"\.csv or \.parquet"):
        read_requests(tmp_path / "log.txt", PART)
