"""The records of requests as a table."""

from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flstore.engine import tracker as module
from flstore.engine.tracker import RequestRecord, Tracker


def test_the_frame_has_one_row_a_request_and_one_column_an_attribute():
    tracker = Tracker("FLStore")
    first = tracker.open("job", "clustering", "P2", 3, None)
    tracker.open("job", "hyperparameters", "P4", None, None)
    first.functions += ["function-0", "function-1"]
    first.hits, first.queue_s = 4, 0.5
    frame = tracker.frame()
    assert [frame.index.name, *frame.columns] == [f.name for f in fields(RequestRecord)]
    assert frame.index.tolist() == [1, 2]
    assert frame.loc[1, ["functions", "hits", "queue_s", "round"]].tolist() == ["function-0 function-1", 4, 0.5, 3]
    assert frame.loc[2, "round"] is pd.NA
    assert str(frame["round"].dtype) == "Int64"
    first.hits = 5
    assert frame.loc[1, "hits"] == 4, "a frame is what was known when it was asked for"


def test_without_requests_the_frame_has_its_columns():
    frame = Tracker("FLStore").frame()
    assert len(frame) == 0
    assert frame.columns.tolist() == [f.name for f in fields(RequestRecord)][1:]


def filled(record: RequestRecord, number: int) -> RequestRecord:
    """A record in which nothing is as it was at first."""
    record.status, record.error = "failed", f"ValueError: {number}"
    record.functions += [f"function-{number % 3}", "function-9"]
    for place, name in enumerate(("hits", "late_hits", "misses", "bytes_moved", "operations", "memory_bytes")):
        setattr(record, name, 10**place + number)
    record.bytes_moved += 2**40
    record.derived = True
    record.queue_s, record.fetch_s, record.compute_s, record.latency_s = 0.1, 0.2 + number, 1 / 3, 7.0
    return record


@pytest.mark.parametrize("live", [0, 3, 1000])
def test_a_closed_record_is_read_back_as_it_was_however_few_are_kept_live(live: int):
    tracker = Tracker("FLStore", live=live)
    asked: list[tuple[Any, ...]] = [
        ("a", "clustering", "P2", 2**40, "c1"),
        ("b", "lineage", "P3", None, None),
        ("a", "x", "P1", 0, "c2"),
    ]
    records = [filled(tracker.open(*asked[i % 3]), i) for i in range(module.ROWS + 5)]
    for record in records[::-1]:
        tracker.close(record)
    assert list(tracker) == records
    frame = tracker.frame()
    expected = pd.DataFrame([{f.name: getattr(r, f.name) for f in fields(RequestRecord)} for r in records])
    expected["functions"] = expected["functions"].map(" ".join)
    expected = expected.astype({"round": "Int64"}).set_index("request")
    pd.testing.assert_frame_equal(frame, expected)


def test_the_sums_of_a_class_are_those_of_the_frame():
    tracker, rng = Tracker("FLStore", live=3), np.random.default_rng(0)
    for _ in range(module.ROWS + 100):
        record = tracker.open("job", "clustering", str(rng.choice(["P1", "P2", "P4"])), 1, None)
        record.hits, record.late_hits, record.misses = rng.integers(5, size=3).tolist()
        record.latency_s, record.status = rng.random(), str(rng.choice(module.STATUSES))
        if record.status != "running":
            tracker.close(record)
    lost = tracker.open("job", "lineage", "P3", 1, None)
    lost.status = "failed"
    frame = tracker.frame()
    by_class = frame.groupby("policy_class")
    expected = by_class[["hits", "late_hits", "misses"]].sum().assign(requests=by_class.size())
    expected["median_latency_s"] = frame[frame["status"] == "done"].groupby("policy_class")["latency_s"].median()
    found = pd.DataFrame.from_dict(tracker.by_class(), orient="index").rename_axis("policy_class")
    pd.testing.assert_frame_equal(found, expected, check_like=True)
    assert Tracker("FLStore").by_class() == {}


def test_an_open_record_that_is_not_kept_any_more_shows_what_was_known_then_until_it_is_closed():
    tracker = Tracker("FLStore", live=1)
    first = tracker.open("job", "clustering", "P2", 3, None)
    first.functions.append("function-0")
    tracker.open("job", "clustering", "P2", 4, None)
    first.hits = 9
    assert tracker.frame().loc[1, ["status", "functions", "hits"]].tolist() == ["running", "function-0", 0]
    first.status = "done"
    tracker.close(first)
    assert tracker.frame().loc[1, ["status", "functions", "hits"]].tolist() == ["done", "function-0", 9]


def test_a_hundred_thousand_open_requests_take_two_megabytes():
    import tracemalloc

    tracemalloc.start()
    tracker = Tracker("FLStore")
    for number in range(100_000):
        tracker.open("job", "clustering", "P2", number // 100, f"client-{number % 100}")
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tracker) == 100_000
    assert taken <= 2.0e6
