"""The experiments that measure: their rules, on data made up for each verdict, and what they are made of."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pandas as pd
import pytest

from experiments import appa1, appa2, coldstart, fig04, fig09, load, sec56
from experiments.claims import Finding, read_claims
from experiments.rules import find
from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.errors import InvalidParameterError
from flstore.testing import factories
from flstore.testing import overheads as overheads_of
from flstore.testing.comparing import ask_anyway, compared
from flstore.testing.rounds import made_rounds

CLAIMS = {claim.id: claim for claim in read_claims()}
STATE = {"w": np.ones((8, 4), np.float32), "steps": np.array(3)}


def judged(claim: str, source: str, data: pd.DataFrame) -> Finding:
    """What the ledger finds, which has the data from a file."""
    return find(CLAIMS[claim], {source: pd.read_csv(StringIO(data.to_csv(index=False)))})


# --- what is asked of several systems -------------------------------------------------------------------------------


def test_made_rounds_are_what_training_leaves_and_the_same_again() -> None:
    first, second, third = made_rounds(STATE, 2, 3, seed=4)
    assert (first.number, len(first.updates)) == (0, 0)
    assert list(second.updates) == list(second.metadata) == ["client-0", "client-1", "client-2"]
    assert second.updates["client-0"]["steps"] == 3
    assert not np.array_equal(second.updates["client-0"]["w"], third.updates["client-0"]["w"])
    again = list(made_rounds(STATE, 2, 3, seed=4))[2]
    assert np.array_equal(again.updates["client-1"]["w"], third.updates["client-1"]["w"])


def test_networks_are_found_by_their_import_path() -> None:
    assert callable(factories.resnet18)
    with pytest.raises(AttributeError, match="no network 'resnet19'; known: efficientnet_v2_s"):
        factories.resnet19  # noqa: B018


def test_all_systems_are_given_every_round_and_asked_in_turns() -> None:
    root = "memory://measured"
    with FLStore.local(functions=1, root=root) as store, ObjStoreAgg(root) as baseline:
        systems = {"ours": store, "theirs": baseline}
        rounds = made_rounds(STATE, 2, 4)
        rows = pd.DataFrame(compared(systems, rounds, ["clustering", "cosine_similarity"], 2, readers=("theirs",)))
        value, failed = ask_anyway(store, "clustering", {"round": 9})
        with pytest.raises(InvalidParameterError, match="debugging needs 'model'"):
            ask_anyway(store, "debugging", {"round": 1})  # no task: a mistake, and no fault of the system
    assert len(rows) == 2 * 2 * 2 * 2
    assert rows["answers_equal"].all()
    assert set(rows[rows["system"] == "theirs"]["misses"]) == {5}
    assert (rows[rows["system"] == "theirs"]["ahead_s"] == 0).all()
    assert value is None
    assert failed["error"].startswith("UpdateNotFoundError: ")


# --- Figure 9 -------------------------------------------------------------------------------------------------------


def against_cache(ours: float, theirs: float = 1.0, equal: bool = True) -> pd.DataFrame:
    """What fig09 leaves: two requests, of which the second took half."""
    each = {fig09.OURS: ours, fig09.DERIVED: 0.01, fig09.CACHE: theirs, fig09.OBJECTS: theirs}
    rows = [
        {"system": name, "ask": ask, "latency_s": seconds / (1 + ask)}
        for name, seconds in each.items()
        for ask in (0, 1)
    ]
    return pd.DataFrame(rows).assign(answers_equal=equal, model="m", workload="clustering", round=1)


@pytest.mark.parametrize(
    ("claim", "ours", "expected"),
    [
        ("C26", 0.35, "reproduced"), ("C26", 0.2, "exceeded"), ("C26", 0.5, "differs"),
        ("C25", 0.3, "reproduced"), ("C25", 0.5, "differs"),
        ("C50", 0.002, "reproduced"), ("C50", 0.1, "differs"), ("C52", 0.012, "reproduced"), ("C52", 0.1, "differs"),
    ],
)  # fmt: skip
def test_latency_against_the_cache_is_judged_without_derived_state(claim: str, ours: float, expected: str) -> None:
    found = judged(claim, "fig09", against_cache(ours))
    assert found.verdict == expected
    assert found.measured == f"{100 * (1 - ours):.2f} (99.00 with derived state)"
    assert judged(claim, "fig09", against_cache(ours, equal=False)).verdict == "cannot be tested here"


# --- Section 5.6 ----------------------------------------------------------------------------------------------------


def overheads(tracker: tuple[float, float], p99_us: float = 20.0) -> pd.DataFrame:
    rows = [
        {"part": part, "requests": count, "allocated_mb": mb, "operation": "find"}
        for part, each in {"tracker": tracker, "index": (0.06, 6.0)}.items()
        for count, mb in zip((1000, 100_000), each, strict=True)
    ]
    return pd.DataFrame(rows).assign(times=100, median_us=3.0, p99_us=p99_us, worst_us=5000.0)


def test_memory_and_times_of_the_components() -> None:
    assert judged("C44", "sec56", overheads((0.19, 20.3))).verdict == "reproduced"
    assert judged("C44", "sec56", overheads((0.1, 1.9))).verdict == "exceeded"
    assert judged("C44", "sec56", overheads((0.3, 1.9))).verdict == "differs"
    assert judged("C45", "sec56", overheads((0.1, 1.9))).measured == "0.06/6.00"
    assert judged("C46", "sec56", overheads((0.1, 1.9))).verdict == "reproduced"
    assert judged("C46", "sec56", overheads((0.1, 1.9), p99_us=1500.0)).verdict == "differs"
    assert judged("C44", "sec56", overheads((0.1, 1.9)).query("requests == 1000")).verdict == "not run"


def test_overheads_are_measured_for_both_components(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overheads_of, "OPERATIONS", 200)
    data = sec56.measure([1000])
    assert set(data["part"]) == {"tracker", "index"}
    assert data["allocated_mb"].between(0.01, 1.0).all()
    assert (data["median_us"] <= data["p99_us"]).all()
    assert (data["p99_us"] <= data["worst_us"]).all()


# --- Appendix A.1 and A.2 -------------------------------------------------------------------------------------------


def faults(struck_s: float = 0.15, empty_s: float = 1.0, error: str = "") -> pd.DataFrame:
    """What appa2 leaves: twenty requests with nothing lost, twenty with two struck, and all lost."""
    rows = [{"setting": appa2.WHOLE, "latency_s": 0.1} for _ in range(20)]
    rows += [
        {"setting": appa2.STRUCK, "latency_s": struck_s if n % 10 == 9 else 0.1, "struck": n % 10 == 9}
        for n in range(20)
    ]
    rows += [
        {"setting": appa2.AT_ONCE, "latency_s": 5.0},
        {"setting": appa2.EMPTY, "latency_s": empty_s, "error": error},
    ]
    ours = pd.DataFrame(rows).assign(system="FLStore")
    theirs = pd.DataFrame([{"setting": appa2.WHOLE, "latency_s": 1.0, "system": appa2.BASELINE}])
    return pd.concat([ours, theirs]).assign(replicas=1)


def test_lost_functions() -> None:
    assert judged("C48", "appa2", faults()).verdict == "reproduced"
    assert judged("C48", "appa2", faults(struck_s=0.9)).verdict == "differs"
    failing = faults().assign(error=lambda d: np.where(d["setting"] == appa2.STRUCK, "gone", ""))
    assert judged("C48", "appa2", failing).verdict == "differs"
    assert judged("C48", "appa2", faults().assign(replicas=0)).verdict == "not run"
    verdicts = {s: str(judged("C56", "appa2", faults(empty_s=s)).verdict) for s in (0.5, 1.2, 1.3)}
    assert verdicts == {0.5: "exceeded", 1.2: "reproduced", 1.3: "differs"}
    assert judged("C56", "appa2", faults(error="gone")).verdict == "differs"


def parallel(latency_8_s: float = 0.101, cores: int = 2, cpu_s: float = 0.09) -> pd.DataFrame:
    """What appa1 leaves, for requests that take 0.1 s of processor time, most of it in functions."""
    jobs = pd.DataFrame({"sweep": appa1.JOBS, "jobs": [1, 8], "functions": [1, 8], "in_flight": [1, 8]})
    jobs = jobs.assign(median_s=[0.1, 0.4], function_cpu_s=[0.09, latency_8_s - 0.01], caller_cpu_s=0.01)
    pairs = [(f, q) for f in (1, 2, 4) for q in (1, 2, 4)]
    one = pd.DataFrame(pairs, columns=["functions", "in_flight"]).assign(sweep=appa1.FUNCTIONS, jobs=1, median_s=0.1)
    one = one.assign(function_cpu_s=cpu_s, caller_cpu_s=0.1 - cpu_s)
    data = pd.concat([jobs, one], ignore_index=True).assign(cores=cores)
    return data.join(appa1._modelled(data))


def test_more_jobs_and_functions() -> None:
    assert judged("C47", "appa1", parallel()).verdict == "reproduced"
    assert judged("C47", "appa1", parallel()).measured == "+300.0 %"
    assert judged("C47", "appa1", parallel(latency_8_s=0.2)).verdict == "differs"
    assert judged("C47", "appa1", parallel(cores=64)).verdict == "differs"  # then what is measured decides
    assert judged("C47", "appa1", parallel().query("jobs == 1")).verdict == "not run"
    found = (
        parallel()
        .query("sweep == @appa1.FUNCTIONS")
        .pivot(index="in_flight", columns="functions", values="modelled_latency_s")
    )
    assert found.loc[4, 1] == pytest.approx(4 * 0.09)
    assert found.loc[4, 4] == pytest.approx(0.1)
    assert judged("C57", "appa1", parallel()).verdict == "reproduced"
    slow = parallel().assign(modelled_latency_s=lambda d: d["modelled_latency_s"] * (1 + (d["functions"] == 4)))
    assert judged("C57", "appa1", slow).verdict == "differs"


# --- Figure 4, load and cold starts ---------------------------------------------------------------------------------


def function(computing_s: float = 2.8, communication_s: float = 89.0) -> pd.DataFrame:
    rows = [{"way": way, "model": m, "workload": "clustering"} for way in fig04.WAYS for m in ("a", "b", "c")]
    times = {"modelled_compute_s": computing_s, "modelled_fetch_s": communication_s}
    return pd.DataFrame(rows).assign(**times)


def test_computing_against_communication() -> None:
    assert [str(judged(c, "fig04", function()).verdict) for c in ("C08", "C09", "C10")] == ["reproduced"] * 3
    assert judged("C08", "fig04", function(computing_s=0.3)).verdict == "exceeded"
    assert judged("C08", "fig04", function(computing_s=3.2)).verdict == "differs"
    assert judged("C09", "fig04", function(communication_s=110)).verdict == "differs"
    assert judged("C10", "fig04", function(computing_s=0.3)).modelled == "297"


def rates(answered: float, misses: int = 0, failed: int = 0) -> pd.DataFrame:
    data = pd.DataFrame({"functions": [1, 1, 2, 2], "offered_per_s": [5, 100, 5, 100], "median_s": 0.1})
    return data.assign(answered_per_s=[5, 40, 5, answered], misses=misses, failed=failed, cores=2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (rates(80), "reproduced"),
        (rates(99), "cannot be tested here"),
        (rates(80, misses=1), "differs"),
        (rates(80, failed=1), "differs"),
    ],
)
def test_load_is_brought_to_saturation(data: pd.DataFrame, expected: str) -> None:
    assert judged("N1", "load", data).verdict == expected


def test_every_request_that_is_offered_is_counted_from_when_it_was_due() -> None:
    with FLStore.local(functions=1, root="memory://load") as store:
        for about in made_rounds(STATE, 1, 4):
            store.ingest(about.number, about.updates, aggregate=about.aggregate)
        store.request("clustering", round=1)
        found = load._offered(store, "clustering", 200.0, 0.1, seed=1)
    assert found["requests"] == 20
    assert found["failed"] == found["misses"] == 0
    assert 0 < found["median_s"] <= found["p95_s"]


def starts(warm_s: float = 0.1, misses: int = 0) -> pd.DataFrame:
    ours = {coldstart.COLD: 3.0, coldstart.RESTARTED: 2.0, coldstart.WARM: warm_s}
    theirs = {coldstart.COLD: 0.5, coldstart.WARM: 0.4}
    rows = [{"system": "FLStore", "state": s, "total_s": t} for s, t in ours.items()]
    rows += [{"system": coldstart.BASELINE, "state": s, "total_s": t} for s, t in theirs.items()]
    return pd.DataFrame(rows).assign(misses=misses, late_hits=0)


def test_cold_restarted_and_warm() -> None:
    found = judged("N1", "coldstart", starts())
    assert (found.verdict, found.measured) == ("reproduced", "cold 3 s; restarted 2 s; warm 0.1 s")
    assert judged("N1", "coldstart", starts(warm_s=2.5)).verdict == "differs"
    assert judged("N1", "coldstart", starts(misses=1)).verdict == "differs"
