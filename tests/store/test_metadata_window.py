"""Requests that read recent metadata alone are answered in the process of the store, and as a function would."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from flstore import FLStore, policies
from flstore.engine import State, fold
from flstore.errors import InvalidParameterError, RequestError, RequestTimeoutError, UpdateNotFoundError
from flstore.metadata_window import MOST_ROWS, PLACE
from flstore.types import Kind
from flstore.workloads.base import Catalogue, Inputs, Scope
from flstore.workloads.hyperparameters import Hyperparameters, HyperparametersResult
from tests.store.conftest import CLIENTS, fill, make_round
from tests.store.test_faults import kill
from tests.store.test_requests import assert_same


@dataclass(frozen=True)
class Broken(Hyperparameters):
    """Raises while it computes."""

    name: ClassVar[str] = "broken"

    def compute(self, inputs: Inputs) -> HyperparametersResult:
        raise ZeroDivisionError("nothing to divide by")


@dataclass(frozen=True)
class Slow(Hyperparameters):
    """Takes until somebody lets it go on."""

    name: ClassVar[str] = "slow"
    go_on: ClassVar[threading.Event] = threading.Event()

    def compute(self, inputs: Inputs) -> HyperparametersResult:
        self.go_on.wait(0.05)
        return super().compute(inputs)


@dataclass(frozen=True)
class WithUpdates(Hyperparameters):
    """Reads more than metadata."""

    name: ClassVar[str] = "with-updates"

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Any]:
        keys = super().needs(scope, catalogue)
        return [*keys, type(keys[0])(scope.job, Kind.UPDATE, keys[-1].round, keys[-1].client)]


def in_functions(monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Any]) -> Any:
    """The answer of the path through the functions."""
    with monkeypatch.context() as patch:
        patch.setattr("flstore.metadata_window.MetadataWindow.plan", lambda self, question: None)
        result = ask()
    assert result.record.functions[-1] != PLACE
    return result


def test_it_is_answered_here_with_an_ordinary_record(shared: FLStore) -> None:
    result = shared.request("hyperparameters", round=4, last=2)
    record = result.record
    assert (record.functions, record.hits, record.late_hits, record.misses) == ([PLACE], 2 * CLIENTS, 0, 0)
    assert (record.bytes_moved, record.operations, record.memory_bytes, record.derived) == (0, 0, 0, False)
    assert record.latency_s >= record.compute_s > 0
    row = shared.requests.loc[record.request]
    assert (row["functions"], row["status"], row["policy_class"], row["round"]) == (PLACE, "done", "P4", 4)
    (event,) = [e.event for e in shared.log if getattr(e.event, "request", None) == record.request]
    assert (event.workload, event.round, sum(map(len, event.keys))) == ("hyperparameters", 4, 2 * CLIENTS)  # type: ignore[union-attr]
    assert shared.submit("hyperparameters").done()
    assert asyncio.run(shared.ask("hyperparameters", last=2)).record.functions == [PLACE]
    assert shared.request("scheduling_performance", by="oort", count=2).record.functions == [PLACE]


@pytest.mark.parametrize(
    ("workload", "params"),
    [
        ("hyperparameters", {}),
        ("hyperparameters", {"rounds": [1, 3], "client": "c2"}),
        ("scheduling_performance", {"by": "oort", "count": 2, "candidates": ["c1", "c2", "new"]}),
    ],
)
def test_a_function_would_have_answered_the_same(
    open_store: Any, monkeypatch: pytest.MonkeyPatch, workload: str, params: dict[str, Any]
) -> None:
    store = open_store()
    fill(store, range(1, 4))
    odd = {"confusion": [[1, 2], [3, 4]], "loss": float("nan"), "notes": {"why": ["slow"]}, "examples": 7, "zero": -0.0}
    store.ingest(3, {}, metadata={"c2": odd, "c1": {"examples": 9, "zero": 0.0}})
    store.flush()

    def ask() -> Any:
        return store.request(workload, **params)

    assert_same(ask().value, in_functions(monkeypatch, ask).value)
    assert ask().record.functions == [PLACE]


def test_who_changes_an_answer_changes_nothing_else(open_store: Any) -> None:
    store = open_store()
    store.ingest(1, {}, metadata={"c": {"layers": [1, 2], "lr": 0.5}})
    first = store.request("hyperparameters", round=1).value
    first.columns["layers"][0].append(3)
    first.columns["lr"].clear()
    again = store.request("hyperparameters", round=1).value.columns
    assert (again["layers"], again["lr"]) == ([[1, 2]], [0.5])


def test_the_copy_moves_with_the_window_and_follows_every_change(open_store: Any) -> None:
    store = open_store(policy_options={"rounds": 2})
    fill(store, range(1, 5))

    def ask(**about: Any) -> Any:
        return store.request("hyperparameters", **about)

    assert ask(rounds=[3, 4]).record.functions == [PLACE]
    assert ask(rounds=[2]).record.functions != [PLACE], "it fell out of P4's window"
    assert store._window.rounds() == [3, 4]
    store.ingest(4, {}, metadata={"c1": {"accuracy": 0.75}})
    store.ingest(4, {}, metadata={"late": {"lr": 7.0}})
    found = ask(round=4, last=1)
    assert found.record.functions == [PLACE]
    assert found.value.frame().loc[(4, "c1"), ["accuracy", "loss"]].tolist() == [0.75, 0.25]
    assert found.value.clients == [*(f"c{i}" for i in range(CLIENTS)), "late"]
    store.delete(client="c1")
    assert "c1" not in ask(rounds=[3, 4]).value.clients
    with pytest.raises(UpdateNotFoundError, match="no metadata of client 'c1'"):
        ask(rounds=[3, 4], client="c1")
    store.delete(rounds=[4])
    assert set(ask().value.rounds) == {1, 2, 3}
    with pytest.raises(UpdateNotFoundError):
        ask(round=4)
    store.flush()
    assert fold(store.log, policies.make("tailored", rounds=2))[1] == []


def test_a_policy_that_keeps_no_metadata_has_none_here(open_store: Any) -> None:
    store = open_store(policy="lru")
    fill(store, range(1, 3))
    assert store.request("hyperparameters").record.functions[-1] == "function-0"
    assert store._window.rounds() == []


def test_a_store_that_is_opened_again_answers_here_at_once(open_store: Any, tmp_path: Path) -> None:
    with FLStore.local(functions=1, memory="64MiB", root=str(tmp_path / "root")) as store:
        fill(store, range(1, 4))
    store = open_store(policy_options={"rounds": 2})
    record = store.request("hyperparameters", rounds=[2, 3]).record
    assert (record.functions, record.hits) == ([PLACE], 2 * CLIENTS)
    assert store._window.rounds() == [2, 3]


def test_no_function_is_needed(open_store: Any) -> None:
    store = open_store()
    fill(store, range(1, 3))
    store.flush()
    kill(store, *(function.name for function in store._pool.functions.values()))
    assert store.request("hyperparameters").record.functions == [PLACE]


def test_deadlines_and_errors_are_those_of_every_request(shared: FLStore) -> None:
    with pytest.raises(RequestTimeoutError, match=r"hyperparameters was not answered within its 0\.0 seconds"):
        shared.request("hyperparameters", deadline_s=0.0)
    with pytest.raises(RequestTimeoutError, match=r"slow was not answered within its 0\.001 seconds"):
        shared.request(Slow(), deadline_s=0.001)
    assert shared.request(Slow(), deadline_s=60).record.functions == [PLACE]
    failed = shared.submit(Broken())
    with pytest.raises(RequestError, match="ZeroDivisionError: nothing to divide by"):
        failed.result()
    with pytest.raises(InvalidParameterError, match="count=9"):
        shared.request("scheduling_performance", by="oort", count=9)
    with pytest.raises(UpdateNotFoundError):
        shared.request("hyperparameters", round=99)
    frame = shared.requests.tail(4)
    assert frame["status"].tolist() == ["failed", "failed", "done", "failed"]
    assert frame["error"].iloc[-1] == "RequestError: ZeroDivisionError: nothing to divide by"
    assert shared._gate.inside == 0


def test_what_reads_more_or_much_runs_on_functions(open_store: Any) -> None:
    store = open_store()
    fill(store, range(1, 2))
    assert store.request(WithUpdates()).record.functions[-1] == "function-0"
    store.ingest(2, {}, metadata={f"m{i}": {"lr": 0.1} for i in range(MOST_ROWS + 1)})
    assert store.request("hyperparameters", rounds=[2]).record.functions[-1] == "function-0"
    assert store._window.rounds() == [1]


def test_the_oldest_rounds_make_room(open_store: Any) -> None:
    store = open_store()
    store._window._limit_bytes = 3000
    for r in range(1, 5):
        store.ingest(r, {}, metadata={"c": {"text": "x" * 1000}})
    assert store._window.rounds() == [3, 4]
    assert store._window.size_bytes <= 3000
    assert store.request("hyperparameters", rounds=[3, 4]).record.functions == [PLACE]
    assert store.request("hyperparameters", rounds=range(1, 5)).value.rounds == [1, 2, 3, 4]


def test_many_threads_ask_while_rounds_arrive(open_store: Any) -> None:
    store = open_store(functions=2)
    fill(store, range(1, 3))
    stop = threading.Event()

    def asks() -> int:
        count = 0
        while not stop.is_set():
            found = store.request("hyperparameters", last=3).value
            for r, client, lr in zip(found.rounds, found.clients, found.columns["lr"], strict=True):
                assert lr == 0.1 / r, client
            count += 1
        return count

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(asks) for _ in range(4)]
        for r in range(3, 15):
            rows = {f"c{i}": {"lr": 0.1 / r} for i in range(CLIENTS)}
            store.ingest(r, make_round(r, size=4), metadata=rows)
        stop.set()
        assert sum(future.result(60) for future in asked) == len(store.requests)
    assert set(store.requests["status"]) == {"done"}
    store.flush()
    assert fold(store.log, policies.make("tailored"))[1] == []
    assert isinstance(fold(store.log, policies.make("tailored"), decisions_only=True)[0], State)
    assert np.all(store.requests["functions"] == PLACE)
