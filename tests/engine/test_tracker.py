"""The records of requests as a table."""

from dataclasses import fields

import pandas as pd

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
