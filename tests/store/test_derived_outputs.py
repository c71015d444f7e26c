"""Models are evaluated before anybody asks, once for all who ask, and no request waits for all of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore.testing import faults
from tests.store.conftest import CLIENTS, fill
from tests.store.test_derived import derived, plain
from tests.store.test_hangs import wait_until
from tests.store.tiny_counts import FOLDER, passes

pytestmark = pytest.mark.usefixtures("own_interpreters")

TASK = {"model": "tests.store.tiny_counts:model", "data": "tests.store.tiny_counts:examples"}
ASKED: dict[str, dict[str, Any]] = {
    "incentives": {},
    "scheduling_performance": {"count": 2},
    "personalization": {"clusters": 2, "k": 2},
    "inference": {"client": "c1"},
}


@pytest.fixture
def opened(open_store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv(FOLDER, str(tmp_path))

    def open(**options: Any) -> Any:
        store = open_store(**options)
        store.task(**TASK)
        fill(store, range(1, 4))
        return store

    yield open
    (tmp_path / "go").touch()  # nothing stands still while stores are closed


def ask(store: Any, name: str, round: int) -> Any:
    return store.request(name, round=round, **ASKED[name])


def test_one_workload_evaluates_the_next_round_for_all(opened: Any, tmp_path: Path) -> None:
    store = opened(functions=1)
    ask(store, "scheduling_performance", 3)
    fill(store, range(4, 5))
    store.flush()
    before = passes(tmp_path)
    assert ask(store, "scheduling_performance", 4).record.derived
    assert ask(store, "inference", 4).record.derived
    ask(store, "incentives", 4)
    assert passes(tmp_path) == before, "no model was run again"
    ask(store, "personalization", 4)
    assert passes(tmp_path) == before + 2, "one for each personal model"


def test_what_a_request_had_to_compute_is_kept(opened: Any, tmp_path: Path) -> None:
    store = opened(functions=1)
    assert not ask(store, "incentives", 3).record.derived
    before = passes(tmp_path)
    for name in ("incentives", "inference", "scheduling_performance"):
        assert ask(store, name, 3).record.derived
    assert passes(tmp_path) == before


def test_the_answers_are_the_same_without(opened: Any, tmp_path: Path) -> None:
    with_, without = opened(functions=1), opened(functions=1, derive=False, root=str(tmp_path / "other"))
    for name in ASKED:
        ask(with_, name, 3)
        mine, other = ask(with_, name, 3), ask(without, name, 3)
        assert (mine.record.derived, other.record.derived) == (True, False)
        np.testing.assert_equal(plain(mine.value), plain(other.value))


def test_a_request_waits_for_one_evaluation_and_not_for_all(opened: Any, tmp_path: Path) -> None:
    store = opened(functions=1)
    ask(store, "scheduling_performance", 3)
    store.flush()
    (tmp_path / "slow").touch()
    (tmp_path / "passes").write_text("")
    fill(store, range(4, 5))
    wait_until(lambda: passes(tmp_path) == 2)  # it is computed ahead, and stands still in the second update
    assert store.submit("cosine_similarity", round=4).result(20).value.clients
    same = store.submit("scheduling_performance", round=4, count=2)
    assert not same.done()
    (tmp_path / "go").touch()
    assert same.result(30).value.chosen
    store.flush()
    assert passes(tmp_path) <= CLIENTS + 1, "at most one was computed twice"
    assert ask(store, "scheduling_performance", 4).record.derived


def test_they_go_with_their_round_and_with_their_function(opened: Any) -> None:
    store = opened(functions=1)
    ask(store, "scheduling_performance", 3)
    store.flush()
    assert derived(store) == CLIENTS
    store.delete(rounds=[3], progress=False)
    assert derived(store) == 0
    fill(store, range(4, 5))
    store.flush()
    assert derived(store) == CLIENTS
    (name,) = store.inventory()
    faults.kill(store, name)
    store.request("cosine_similarity", round=4)
    store.flush()
    ask(store, "scheduling_performance", 4)
    assert ask(store, "scheduling_performance", 4).record.derived


def test_other_data_and_precision_are_evaluated_apart(opened: Any, tmp_path: Path) -> None:
    store = opened(functions=1)
    rng, path = np.random.default_rng(1), str(tmp_path / "held_out.npz")
    labels = rng.integers(0, 10, 20)
    answers = []
    for seed in (1, 2):
        np.savez(path, x=np.random.default_rng(seed).normal(size=(20, 2000)).astype("f4"), y=labels)
        answers.append(store.request("inference", round=3, client="c1", data=path))
    assert not answers[1].record.derived
    assert not np.array_equal(answers[0].value.outputs, answers[1].value.outputs)
    brief = store.request("inference", round=3, client="c1", data=path, precision="bfloat16")
    assert not brief.record.derived
    assert store.task(precision="bfloat16").precision == "bfloat16"
    again = store.request("inference", round=3, client="c1", data=path)
    assert again.record.derived
    np.testing.assert_array_equal(again.value.outputs, brief.value.outputs)
