"""The paper's comparisons as figures and tables, small, with policies that exist when they are called."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd
import pytest

from flstore import policies
from flstore.cost.capacity import updates_for_every_hit
from flstore.errors import InvalidParameterError
from flstore.policies import LRU
from flstore.simulator import mixes, participation_trace, replay, studies

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
SMALL = {"clients": 40, "per_round": 5}


@pytest.fixture(autouse=True)
def _close():
    yield
    matplotlib.pyplot.close("all")


def test_table_3_has_the_papers_rows_and_the_fair_ones():
    figure, data = studies.table3(**SMALL, rounds=40, seeds=[3], policies=["lru"], capacity_updates=10)
    of = data[data["access"] == "single"].set_index(["policy_class", "policy", "fill"])["misses"]
    assert of["P2", "tailored", "directed"] == of["P3", "tailored", "directed"] == 1
    assert of["P4", "tailored", "directed"] == of["P2", "lru", "write-allocate"] == 0
    assert of["P2", "lru", "write-around"] == 200
    dots = [y for line in figure.axes[0].lines if line.get_marker() == "D" for y in line.get_ydata()]
    assert sorted(dots) == [0.0, 0.0, 0.0, 63 / 64, 19999 / 20000, 1.0]


def test_figure_10_is_modelled_and_tailored_costs_less():
    figure, data = studies.figure10(
        **SMALL, rounds=12, workloads=["clustering", "debugging"], policies=["tailored", "lru"]
    )
    of = data.set_index(["workload", "policy"])
    for workload in ("clustering", "debugging"):
        for column in ("modelled_latency_s", "modelled_cost_usd"):
            assert 0 < of.loc[(workload, "tailored"), column] < of.loc[(workload, "lru"), column]
    assert of["requests"].tolist() == [12] * 4
    assert len(figure.axes) == 2
    _, shared = studies.figure10(
        **SMALL, rounds=12, workloads=["clustering", "debugging"], policies=["lru"], shared=True
    )
    assert shared["hit_ratio"].mean() == pytest.approx(0.5)  # one workload finds what the other brought
    with pytest.raises(InvalidParameterError, match=r"no model 'resnet19'"):
        studies.figure10(model="resnet19")
    with pytest.raises(InvalidParameterError, match="no seconds for 'lineage'"):
        studies.figure10(workloads=["lineage"])


def test_the_capacity_at_which_a_fill_begins_to_pay_is_that_of_the_analysis():
    """Asked one round late, write-allocate LRU needs 20 + 10 updates for ten a round."""
    figure, data = studies.capacity_curve(capacities=[20, 29, 30], policies=["p2", "lru"], rounds=30, lag=1)
    ratio = data.set_index(["policy", "fill", "capacity_updates"])["hit_ratio"]
    assert ratio["lru", "write-allocate", 30] == 1.0
    assert ratio["lru", "write-allocate", 29] < 1.0
    assert (ratio["lru", "write-around"] == 0).all()
    assert len(data) == 9
    assert figure.axes[0].get_xlabel() == "capacity, updates"


@pytest.mark.parametrize("lag", [0, 2, 5])
@pytest.mark.parametrize("policy", studies.registered(["lru", "fifo"]))
def test_the_capacity_for_every_hit_is_just_enough(policy: str, lag: int):
    trace = participation_trace(40, 5, 20, seed=0)
    requests = mixes.online(trace, lag=lag)
    requests = requests[requests["round"] + lag == requests["after"]]  # those after the end come sooner
    enough = updates_for_every_hit(policy, lag, per_round=5)
    assert replay(requests, policy, enough, fill="write-allocate", participation=trace).misses == 0
    assert replay(requests, policy, enough - 1, fill="write-allocate", participation=trace).misses > 0
    with pytest.raises(InvalidParameterError, match="got 'lfu'"):
        updates_for_every_hit("lfu", lag, 5)


def test_with_less_lead_than_a_fetch_takes_what_is_prefetched_is_late():
    _, data = studies.lead_time(leads=[0.25, 2.0], policies=["p2", "lru"], **SMALL, rounds=12)
    of = data.set_index(["policy", "lead"])
    assert of.loc[("p2", 0.25), "late_ratio"] > 0.8
    assert of.loc[("p2", 2.0), "late_ratio"] == 0.0
    assert of.loc[("p2", 0.25), "modelled_wait_s"] > of.loc[("p2", 2.0), "modelled_wait_s"]
    assert of.loc["lru", "late_ratio"].tolist() == [0.0, 0.0]
    assert (data[["hit_ratio", "late_ratio", "miss_ratio"]].sum(axis=1) == 1).all()
    with pytest.raises(InvalidParameterError, match="positive"):
        studies.lead_time(leads=[0.0])


def test_a_policy_registered_now_takes_part(monkeypatch: pytest.MonkeyPatch):
    class Mine(LRU):
        name: ClassVar[str] = "random"  # of the ablations, whether or not there is one yet

    monkeypatch.setitem(policies._POLICIES, "random", Mine)
    _, data = studies.figure10(**SMALL, rounds=4, workloads=["clustering"])
    assert {"tailored", "random", "lru"} <= set(data["policy"])


def test_the_frames_say_what_they_hold():
    _, data = studies.lead_time(leads=[1.0], policies=["p2"], **SMALL, rounds=4)
    assert isinstance(data, pd.DataFrame)
    assert data.columns.tolist() == [
        "policy", "lead", "interval_s", "hit_ratio", "late_ratio", "miss_ratio", "modelled_wait_s",
    ]  # fmt: skip
