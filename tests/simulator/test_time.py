"""A replay with a link: late hits, waits, latency and cost, worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from flstore.cost import Link, load_prices
from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.simulator import mixes, participation_trace, replay

SIZE = 100
LINK = Link("test", 1.0, 1e9, 50.0, "s3.get", None, "assumed", "", "")
"""A fetch of one update takes 1 + 100 / 50 = 3 s; of two at the same time as well."""


def two_rounds(**columns) -> pd.DataFrame:
    return pd.DataFrame({"round": [1, 1, 2, 2], "client": [0, 1, 0, 1], "size_bytes": SIZE, **columns})


def run(arrivals: list[float], **options):
    rows = two_rounds(request=[1, 1, 2, 2], arrival_s=[arrivals[0]] * 2 + [arrivals[1]] * 2)
    return replay(rows, "p2", ingest="posthoc", link=LINK, service_s=0.5, **options)


@pytest.mark.parametrize(
    ("second", "outcome", "wait_s"), [(1.0, "late", 2.0), (2.9, "late", 0.1), (3.0, "hit", 0.0), (9.0, "hit", 0.0)]
)
def test_a_prefetch_is_late_until_it_is_done(second: float, outcome: str, wait_s: float):
    """The first request fetches round 1 and prefetches round 2, both in 3 s."""
    found = run([0.0, second])
    assert found.frame["outcome"].tolist() == ["miss", "miss", outcome, outcome]
    assert found.requests is not None
    assert found.requests["fetch_s"].tolist() == [3.0, 0.0]
    assert found.requests["wait_s"].tolist() == pytest.approx([0.0, wait_s])
    assert found.requests["latency_s"].tolist() == pytest.approx([3.5, wait_s + 0.5])
    assert found.latency([0.0, 1.0]).tolist() == pytest.approx([wait_s + 0.5, 3.5])
    assert (found.hits, found.late_hits, found.misses) == (2 * (outcome == "hit"), 2 * (outcome == "late"), 2)
    assert found.bytes_from_store == 4 * SIZE  # each once: what was missed is kept, not fetched twice


def test_one_connection_fetches_one_after_the_other():
    found = run([0.0, 5.0], connections=1)
    assert found.requests is not None
    assert found.requests["fetch_s"].tolist() == [6.0, 0.0]
    assert found.requests["wait_s"].tolist() == [0.0, 1.0]


def test_what_is_ingested_with_its_round_is_never_late():
    trace = participation_trace(20, 4, 10, seed=0).assign(size_bytes=SIZE)
    found = replay(mixes.online(trace), "tailored", participation=trace, link=LINK, interval_s=0.0)
    assert (found.late_hits, found.misses) == (0, 4)


def test_without_a_link_nothing_is_late_and_with_a_fast_one_the_counts_are_the_same():
    trace = participation_trace(20, 4, 30, seed=0)
    rows = mixes.together(
        mixes.online(trace, lag=2), mixes.online(trace, "hyperparameters", lag=9), mixes.posthoc(trace)
    )
    for policy in ("tailored", "p1", "p2", "p3", "p4", "lru"):
        plain = replay(rows, policy, 10, participation=trace)
        timed = replay(rows, policy, 10, participation=trace, link="local-files", interval_s=1e6)
        assert timed.frame["outcome"].tolist() == plain.frame["outcome"].tolist()
        assert timed.bytes_from_store == plain.bytes_from_store
        assert timed.loads == plain.loads


def test_cost_is_of_the_seconds_billed_and_the_fees_of_fetches_and_prefetches():
    found = run([0.0, 1.0])
    prices = load_prices()
    cost = found.cost()
    get = prices["s3.get"].usd
    seconds = 4.0 * prices["lambda.duration"].usd  # default functions have 4 GiB
    assert cost["modelled_compute_usd"].tolist() == pytest.approx([3.5 * seconds, 2.5 * seconds])
    assert cost["modelled_get_usd"].tolist() == [2 * get, 0.0]
    assert cost["modelled_prefetch_usd"].tolist() == [found.loads * get / 2] * 2
    parts = [c for c in cost if c.endswith("_usd") and c != "modelled_cost_usd"]
    assert cost["modelled_cost_usd"].tolist() == pytest.approx(cost[parts].sum(axis=1).tolist())
    assert cost["modelled_latency_s"].tolist() == pytest.approx([3.5, 2.5])


def test_bytes_from_the_store_count_what_nobody_keeps_too():
    """P3 asked by a P2 workload's rows for one client: what no cursor wants is fetched for the request alone."""
    rows = two_rounds(workload="hyperparameters")
    assert replay(rows, "p2").bytes_from_store == 4 * SIZE  # P2 keeps no metadata
    assert replay(rows, "p4").bytes_from_store == 0
    whole = rows.assign(request=[1, 1, 2, 2])
    assert replay(whole, "p2").bytes_from_store == 4 * SIZE


def test_rounds_come_when_they_arrive():
    part = two_rounds(arrival_s=[0.0, 0.0, 10.0, 10.0])
    rows = two_rounds(arrival_s=[1.0, 2.0, 12.0, 13.0])
    assert replay(rows, "p2", participation=part, ingest="timed").frame["outcome"].tolist() == [
        "miss",
        "hit",
        "hit",
        "hit",
    ]
    early = two_rounds(arrival_s=[1.0, 2.0, 9.0, 13.0])
    with pytest.raises(InvalidParameterError, match=r"request 3 asks for round 2 at 9\.0 s.*arrives at 10\.0 s"):
        replay(early, "p2", participation=part, ingest="timed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"link": "s3-same-region"}, "interval_s="),
        ({"ingest": "timed"}, "interval_s="),
        ({"link": LINK, "interval_s": -1.0}, r"interval_s must be at least 0 seconds, got -1\.0"),
        ({"link": LINK, "interval_s": 1.0, "connections": 0}, "connections must be at least 1, got 0"),
        (
            {"link": LINK, "interval_s": 1.0, "service_s": {"lineage": 1.0}},
            "no seconds for workload 'clustering'.*lineage",
        ),
        ({"link": LINK, "interval_s": 1.0, "service_s": float("nan")}, "got nan"),
    ],
    ids=str,
)
def test_time_that_cannot_be_is_refused(options: dict, message: str):
    with pytest.raises(InvalidParameterError, match=message):
        replay(two_rounds(), "p2", **options)


def test_an_unknown_link_is_named():
    with pytest.raises(UnknownNameError, match="'s3-same-regio'"):
        replay(two_rounds(), "p2", link="s3-same-regio", interval_s=1.0)


def test_an_outcome_without_time_says_how_to_have_it():
    outcome = replay(two_rounds(), "p2")
    for call in (outcome.latency, outcome.cost, lambda: outcome.plot("latency")):
        with pytest.raises(InvalidParameterError, match="link='s3-same-region'"):
            call()


def test_an_outcome_draws_itself_where_it_is_told():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    outcome = run([0.0, 1.0])
    _, mine = plt.subplots()
    assert outcome.plot(ax=mine) is mine
    assert [t.get_text() for t in mine.get_legend().get_texts()] == ["hit", "late", "miss"]
    latency = outcome.plot("latency")
    assert sorted(latency.lines[0].get_xdata()) == pytest.approx([2.5, 3.5])
    assert outcome.plot("resident").get_ylabel() == "bytes held"
    with pytest.raises(InvalidParameterError, match="got 'pie'"):
        outcome.plot("pie")  # type: ignore[arg-type]
    plt.close("all")


def test_an_outcome_shows_its_time_in_a_notebook():
    page = run([0.0, 1.0])._repr_html_()
    assert "latency, modelled" in page
    assert "USD a request" in page
