"""Many replays at once: the same rows on every executor, and errors before anything runs."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pandas as pd
import pytest

from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.simulator import mixes, participation_trace, replay, sweep

TRACE = participation_trace(40, 5, 20, seed=0)
TRACES = {"online": mixes.online(TRACE, lag=1), "post hoc": mixes.posthoc(TRACE)}
WHAT: tuple[Any, ...] = (["p2", "lru"], [10, None], TRACES)
OPTIONS: dict[str, Any] = {"fills": ["write-around", "write-allocate"], "participation": TRACE, "progress": False}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def alone() -> pd.DataFrame:
    return sweep(*WHAT, **OPTIONS)


def test_every_combination_is_replayed_once_and_those_without_a_fill_only_once(alone: pd.DataFrame):
    assert len(alone) == 2 * (2 + 4)
    assert not alone.duplicated(["trace", "policy", "fill", "capacity_updates"]).any()
    assert set(alone.query("policy == 'p2'")["fill"]) == {""}
    for row in alone.itertuples():
        capacity = None if row.capacity_updates is pd.NA else row.capacity_updates
        fill = row.fill or "write-around"
        found = replay(TRACES[row.trace], row.policy, capacity, fill=fill, participation=TRACE)  # type: ignore[arg-type]
        assert (row.hits, row.misses, row.loads) == (found.hits, found.misses, found.loads)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_an_executor_finds_the_same(kind: str, alone: pd.DataFrame):
    make = {"threads": lambda: ThreadPoolExecutor(2), "processes": lambda: ProcessPoolExecutor(1, get_context("spawn"))}
    with make[kind]() as executor:
        pd.testing.assert_frame_equal(sweep(*WHAT, executor, **OPTIONS), alone)


def test_a_dask_client_finds_the_same(alone: pd.DataFrame):
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        pd.testing.assert_frame_equal(sweep(*WHAT, client, **OPTIONS), alone)


def test_with_a_link_the_rows_say_what_a_request_takes_and_costs():
    found = sweep(["p2"], [None], TRACES, participation=TRACE, progress=False, link="s3-same-region", interval_s=60.0)
    assert (found["modelled_latency_mean_s"] > 0).all()
    assert (found["modelled_latency_p99_s"] >= found["modelled_latency_mean_s"]).all()
    assert (found["modelled_cost_mean_usd"] > 0).all()


def test_a_progress_bar_counts_the_replays_where_somebody_looks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flstore.display.progress.PATIENCE_S", 0)
    for stream, seen in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        sweep(["p2"], [10, None], TRACES, participation=dict.fromkeys(TRACES, TRACE))
        replay(TRACE, "p2", progress=True)
        assert ("4/4" in stream.getvalue()) is seen
        assert ("100/100" in stream.getvalue()) is seen


@pytest.mark.parametrize(
    ("what", "options", "error", "message"),
    [
        (([], [1], TRACES), {}, InvalidParameterError, "at least one policy"),
        ((["p2"], [1], {}), {}, InvalidParameterError, "at least one policy"),
        ((["p22"], [1], TRACES), {}, UnknownNameError, "'p22'.*Did you mean"),
        ((["lru"], [1], TRACES), {"fills": ["write-back"]}, InvalidParameterError, "got 'write-back'"),
        ((["lru"], [1], TRACES), {"participation": {"online": TRACE}}, InvalidParameterError, "no trace 'post hoc'"),
        ((["lru"], [0], TRACES), {}, InvalidParameterError, "capacity_updates must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_swept_is_named(what: Any, options: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        sweep(*what, progress=False, **options)
