"""Figure 10, the hit curve and the lead times, small; and the rules that judge Figure 10."""

from __future__ import annotations

import pandas as pd
import pytest

from experiments import fig10, hitcurve, leadtime
from experiments.claims import Verdict, read_claims
from experiments.rules import find
from flstore import policies

CLAIMS = {claim.id: claim for claim in read_claims()}
POLICIES = ["tailored", "tailored-limited", "random", "static", "lru", "fifo"]


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return fig10.measure(40, 5, 20, 1, "resnet18", POLICIES, "s3-same-region")[1]


def test_every_workload_is_there_under_every_policy(data: pd.DataFrame) -> None:
    seconds = fig10.latency(data)
    assert list(fig10.table(data).index) == POLICIES
    assert seconds.shape == (9, len(POLICIES))
    assert "inference" not in seconds.index
    assert (seconds["tailored"] < seconds["lru"]).all()


def test_the_claims_of_figure_10_have_verdicts_with_reasons(data: pd.DataFrame) -> None:
    for name in ("C37", "C38", "C39"):
        found = find(CLAIMS[name], {"fig10": data})
        assert found.verdict is not Verdict.NOT_RUN
        assert "modelled from a replay" in found.reason


def made(**seconds: dict[str, float]) -> pd.DataFrame:
    rows = [
        {"policy": policy.replace("_", "-"), "workload": workload, "modelled_latency_s": value}
        for policy, values in seconds.items()
        for workload, value in values.items()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("ours", "verdict"), [(0.03, "reproduced"), (0.5, "differs"), (0.0, "reproduced")])
def test_debugging_is_compared_with_lru_and_fifo(ours: float, verdict: str) -> None:
    table = made(tailored={"debugging": ours}, lru={"debugging": 1.0}, fifo={"debugging": 1.0})
    assert find(CLAIMS["C37"], {"fig10": table}).verdict == verdict


def test_half_the_memory_must_be_better_everywhere() -> None:
    classic = {"clustering": 1.0, "lineage": 1.0}
    for lineage, verdict in ((0.5, "reproduced"), (1.5, "differs")):
        table = made(tailored_limited={"clustering": 0.1, "lineage": lineage}, lru=classic, fifo=classic)
        found = find(CLAIMS["C38"], {"fig10": table})
        assert (found.verdict, "lineage" in found.reason) == (verdict, verdict == "differs")


def test_a_random_class_must_not_be_better_at_scheduling() -> None:
    classic = {"clustering": 1.0, "scheduling_performance": 1.0}
    for scheduling, verdict in ((2.0, "reproduced"), (0.5, "differs")):
        table = made(random={"clustering": 0.5, "scheduling_performance": scheduling}, lru=classic, fifo=classic)
        assert find(CLAIMS["C39"], {"fig10": table}).verdict == verdict


def test_a_policy_that_was_not_replayed_is_said() -> None:
    found = find(CLAIMS["C38"], {"fig10": made(tailored={"clustering": 1.0})})
    assert found.verdict is Verdict.NOT_RUN
    assert "tailored-limited" in found.reason


def test_the_curve_has_every_policy_and_way_of_filling() -> None:
    _, data = hitcurve.measure([5, 10], 30, 5, 12, 1, 1)
    table = hitcurve.table(data)
    assert set(table.index.get_level_values("policy")) == set(policies.names())
    assert table.loc[("lru", "write-allocate"), 10] > table.loc[("lru", "write-around"), 10]


def test_late_hits_end_where_there_is_time_enough() -> None:
    _, data = leadtime.measure([0.5, 2.0], ["tailored"], 30, 5, 12, 1, "s3-same-region")
    late = leadtime.table(data)["tailored"]
    assert late[0.5] > 0.5
    assert late[2.0] == 0
