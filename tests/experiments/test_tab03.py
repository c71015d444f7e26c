"""Table 3 on a small trace, with the exact counts."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from experiments import tab03
from experiments.parameters import HERE
from flstore.simulator import participation_trace


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return tab03.measure(40, 5, 60, seeds=[3], classic_policies=["lru"], capacity_updates=10)


def counts(data: pd.DataFrame, policy_class: str, access: str, policy: str, fill: str) -> tuple[int, int]:
    where = (data["policy_class"] == policy_class) & (data["access"] == access)
    (row,) = data[where & (data["policy"] == policy) & (data["fill"] == fill)].itertuples()
    assert row.hits + row.misses == row.total
    return row.hits, row.misses


def test_tailored_policies_miss_what_arms_them_and_nothing_else(data: pd.DataFrame):
    assert counts(data, "P2", "single", "tailored", "directed") == (299, 1)
    assert counts(data, "P2", "round", "tailored", "directed") == (295, 5)
    assert counts(data, "P4", "single", "tailored", "directed") == (300, 0)
    hits, misses = counts(data, "P3", "single", "tailored", "directed")
    assert misses == 1
    assert hits + 1 == participation_trace(40, 5, 60, 3).groupby("client").size().max()


@pytest.mark.parametrize("policy_class", ["P2", "P3", "P4"])
def test_lru_hits_nothing_on_demand_and_everything_on_ingest(data: pd.DataFrame, policy_class: str):
    assert counts(data, policy_class, "single", "lru", "write-around")[0] == 0
    assert counts(data, policy_class, "single", "lru", "write-allocate")[1] == 0


def test_the_client_nearest_to_the_papers_count_is_taken():
    trace = pd.DataFrame({"round": [1, 1, 2, 2, 3], "client": [5, 2, 5, 9, 5]})
    assert tab03.client_of(trace, 3) == 5
    assert tab03.client_of(trace, 1) == 2


def test_the_figure_shows_the_papers_values(data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    (axes,) = tab03.figure(data).axes
    drawn = [y for line in axes.lines if line.get_marker() == "D" for y in line.get_ydata()]
    assert sorted(drawn) == [0.0, 0.0, 0.0, 63 / 64, 19999 / 20000, 1.0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        "tailored",
        "lru (write-around)",
        "lru (write-allocate)",
        "paper",
    ]
