"""Requests, functions, policies and traces show themselves; and stores do when what they stand on is gone."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore, policies
from flstore.baselines import LocalFiles
from flstore.display import function as function_display
from flstore.display.status import CLOSED, CLOSED_HERE, NO_FUNCTIONS, WITHOUT_FUNCTIONS
from flstore.engine import EventLog, RequestRecord
from flstore.results import RequestFuture
from flstore.simulator import participation_trace, record, replay
from flstore.status import FunctionStatus
from flstore.types import Requested
from tests.store.test_hangs import wait_until

EVIL = "<script>alert(1)</script>"


def updates(round: int) -> dict[str, dict[str, Any]]:
    return {f"c{i}": {"w": np.random.default_rng([round, i]).normal(size=64).astype("f4")} for i in range(3)}


@pytest.fixture(scope="module")
def store() -> Any:
    with FLStore.local(functions=1, memory="64MiB", root="memory://display-objects") as store:
        for number in (1, 2):
            store.ingest(number, updates(number), metadata={"c0": {"loss": 0.5}})
            store.request("cosine_similarity", round=number)
        yield store


def same(shown: Any, read: Any) -> dict[str, str]:
    """The facts of an object's HTML, each of which is in its text too."""
    page = read(shown._repr_html_())
    assert "script" not in page.tags
    text = repr(shown)
    facts: dict[str, str] = page.facts()
    assert facts
    for label, value in facts.items():
        assert label in text
        assert value in " ".join(text.split())
    return facts


# --- requests -------------------------------------------------------------------------------------------------------


def test_a_request_shows_how_far_it_is(store: FLStore, read: Any) -> None:
    future = store.submit("clustering", round=2, k=2)
    answer = future.result()
    assert isinstance(future, RequestFuture)
    assert future.record is answer.record
    facts = same(future, read)
    assert (facts["status"], facts["about"]) == ("answered", "job default, round 2")
    assert "Request for clustering" in read(future._repr_html_()).words


def test_a_request_on_its_way_says_how_long_it_waits(read: Any) -> None:
    waiting = RequestFuture(RequestRecord(1, "FLStore", "j", EVIL, "P2", 3), started=0.0)
    assert "on its way for" in repr(waiting)
    page = read(waiting._repr_html_())
    assert f"Request for {EVIL}" in page.words
    assert page.facts()["about"] == "job j, round 3"
    assert "latency" not in page.facts()


def test_a_request_that_the_store_closed_on_says_so(read: Any, tmp_path: Path) -> None:
    with FLStore.local(functions=1, memory="64MiB", root=str(tmp_path)) as store:
        store.ingest(1, updates(1))
        store._serving.abandon()
        future = store.submit("clustering", round=1, k=2)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(10)
    assert same(future, read)["status"] == "failed"
    assert "the store was closed before the request was answered" in repr(future)
    assert "the store was closed before the request was answered" in read(future._repr_html_()).words


# --- functions ------------------------------------------------------------------------------------------------------


def test_a_function_shows_its_memory_as_a_bar(read: Any) -> None:
    shown = FunctionStatus(EVIL, True, 8 << 20, 2 << 20, 1200, 2, 3, (1, 2, 3), copies=4)
    assert same(shown, read) == {
        "state": "alive", "memory": "2.00 MiB of 8.00 MiB (25.0 %)", "holds": "1,200 updates, 2 aggregates, 3 metadata",
        "copies": "4 of them", "rounds": "1-3",
    }  # fmt: skip
    page = read(shown._repr_html_())
    assert ("span", "style", "width:25.0%") in page.attributes
    assert "[###.........]" in repr(shown)
    gone = replace(shown, alive=False)
    assert same(gone, read)["state"] == "not alive"
    assert function_display.GONE in read(gone._repr_html_()).words


def test_the_functions_of_a_store_show_themselves(store: FLStore, read: Any) -> None:
    (shown,) = store.status().functions
    assert same(shown, read)["state"] == "alive"
    assert repr(shown).startswith("Cache function function-0")


# --- policies -------------------------------------------------------------------------------------------------------


def test_a_policy_shows_what_it_keeps_and_its_parameters(read: Any) -> None:
    shown = policies.make("tailored-limited", share=0.25, window=7)
    facts = same(shown, read)
    assert (facts["share"], facts["window"], facts["last"]) == ("0.25", "7", "10")
    assert "Policy tailored-limited" in read(shown._repr_html_()).words
    assert same(policies.make("p2"), read)["keeps"].startswith("Keep the requested round")


@pytest.mark.parametrize("name", [name for name in policies.names() if not policies.get(name).needs_future])
def test_every_parameter_of_a_policy_is_shown(name: str, read: Any) -> None:
    shown = policies.make(name)
    import inspect

    assert set(inspect.signature(type(shown)).parameters) <= set(same(shown, read))


def test_a_policy_of_somebody_else_is_shown_and_escaped(read: Any) -> None:
    class Theirs(policies.Policy):
        __doc__ = EVIL
        name = EVIL

        def __init__(self, depth: str = EVIL) -> None:
            self.depth = depth

        def decide(self, event: Any, view: Any) -> Any:
            return ()

    facts = same(Theirs(), read)
    assert facts == {"keeps": EVIL, "depth": EVIL}


def test_the_offline_optimum_says_what_it_needs() -> None:
    assert "only a replay can use it" in repr(policies.get("belady")([]))  # type: ignore[call-arg]


# --- traces ---------------------------------------------------------------------------------------------------------


def test_an_event_log_is_counted_not_listed(store: FLStore, read: Any) -> None:
    store.flush()  # a load that ends between the two views is another event
    facts = same(store.log, read)
    asked = sum(isinstance(entry.event, Requested) for entry in store.log)
    assert f"{asked} requested" in facts["events"]
    assert facts["policy"] == "tailored"
    assert len(repr(store.log)) < 2000
    assert same(EventLog(), read)["events"] == "0: -"


def test_a_recorded_trace_shows_what_it_covers(store: FLStore, read: Any) -> None:
    trace = record(store)
    facts = same(trace, read)
    assert facts["rounds"] == "1-2"
    assert "cosine_similarity (" in facts["workloads"]
    assert "Requests" in repr(trace)
    empty = record(EventLog())
    assert same(empty, read)["requests"] == "0 for 0 objects"


def test_an_outcome_of_a_trace_draws_itself_even_when_it_is_empty() -> None:
    trace = participation_trace(clients=5, per_round=2, rounds=3, seed=0)
    assert replay(trace, "p2").plot().get_ylabel() == "share"
    assert replay(trace.iloc[:0], "p2").plot().get_ylabel() == "share"


# --- what is gone ---------------------------------------------------------------------------------------------------


def test_a_baseline_shows_itself_open_and_closed(tmp_path: Path, read: Any) -> None:
    with LocalFiles(str(tmp_path)) as files:
        files.ingest(1, updates(1))
        files.request("cosine_similarity", round=1)
        page = read(files._repr_html_())
        assert "LocalFiles" in page.words
        assert page.facts()["holds"] == "1 round, latest 1; 3 clients"
        assert [WITHOUT_FUNCTIONS] in page.rows
    assert CLOSED_HERE in read(files._repr_html_()).words
    assert CLOSED_HERE in repr(files)


def test_a_closed_store_and_all_that_it_gave_show_themselves(read: Any) -> None:
    with FLStore.local(functions=1, memory="64MiB", root="memory://display-closed") as store:
        store.ingest(1, updates(1))
        answer = store.request("cosine_similarity", round=1)
    assert CLOSED in repr(store)
    assert CLOSED in read(store._repr_html_()).words
    for shown in (answer, store.log, store._policy):
        assert same(shown, read)
    assert len(store.requests) == 1
    assert store.plot.latency().get_title() == "FLStore: latency by workload"


def test_a_reader_whose_root_is_gone_says_so(tmp_path: Path, read: Any) -> None:
    root = tmp_path / "root"
    with FLStore.local(functions=1, memory="64MiB", root=str(root)) as store:
        store.ingest(1, updates(1))
    with FLStore.attach(str(root)) as reader:
        assert "any more" not in repr(reader)
        shutil.rmtree(root)
        assert "Nothing of job 'default' is below" in repr(reader).replace("\n", " ")
        page = read(reader._repr_html_())
        assert "Nothing of job 'default' is below" in page.words
        assert page.facts()["holds"] == "1 round, latest 1; 3 clients"
    assert CLOSED_HERE in repr(reader)


@pytest.mark.services
def test_a_reader_whose_server_is_gone_says_so(tmp_path: Path, read: Any) -> None:
    from flstore.testing.services import rclone_s3

    with rclone_s3(tmp_path) as server:
        root, options = server.create_bucket("gone") + "/runs", server.storage_options
        with FLStore.local(functions=1, memory="64MiB", root=root, storage_options=options) as store:
            store.ingest(1, updates(1))
        reader = FLStore.attach(root, storage_options=options)
    page = read(reader._repr_html_())
    assert "Shown is what was seen before: cannot list" in page.words
    assert server.secret not in page.words
    assert page.facts()["holds"] == "1 round, latest 1; 3 clients"
    reader.close()


def test_a_store_whose_cluster_is_gone_says_so(tmp_path: Path, read: Any) -> None:
    from flstore.testing.clusters import dask_cluster

    with dask_cluster(workers=1) as cluster:
        store = FLStore.connect(cluster.address, str(tmp_path), memory="64MiB", security=cluster.security)
        wait_until(lambda: any(f.alive for f in store.status().functions))
        store.ingest(1, updates(1))
        store.flush()
    wait_until(lambda: not any(f.alive for f in store.status().functions))
    page = read(store._repr_html_())
    assert NO_FUNCTIONS in page.words or "not alive" in page.words
    assert page.facts()["holds"] == "1 round, latest 1; 3 clients"
    assert NO_FUNCTIONS in repr(store) or "not alive" in repr(store)
    store.close()
    assert "This store is closed" in repr(store)


def test_functions_keep_their_names_when_their_store_is_closed(tmp_path: Path) -> None:
    with FLStore.local(functions=1, memory="64MiB", root=str(tmp_path)) as store:
        assert [(f.name, f.alive) for f in store.status().functions] == [("function-0", True)]
    assert [(f.name, f.alive) for f in store.status().functions] == [("function-0", False)]
