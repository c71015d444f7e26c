"""Answers before the question: what requests will need of a round is computed when it is there, and goes with it."""

from typing import Any

import numpy as np
import pytest

from flstore.testing import faults
from tests.store.conftest import CLIENTS, fill, make_round
from tests.store.odd_workloads import WaitsForFile

ROUND = ("clustering", "cosine_similarity", "malicious_filtering")


def ask(store: Any, name: str, round: int) -> Any:
    return store.request(name, round=round, **({"k": 2} if name == "clustering" else {}))


def plain(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def derived(store: Any) -> int:
    """How much all functions together have derived."""

    async def ask() -> int:
        replies = [await store._pool.call(n, "inventory", renew=False) for n in store._pool.functions]
        return sum(reply["derived"] for reply in replies)

    found: int = store._pool.sync(ask())
    return found


def test_the_next_round_is_ready_before_anybody_asks(open_store: Any) -> None:
    store = open_store(functions=2)
    fill(store, range(1, 4))
    ask(store, "cosine_similarity", 3)
    fill(store, range(4, 5))
    store.flush()
    for name in ROUND:  # all three need the same inner products
        result = ask(store, name, 4)
        assert (result.record.derived, result.record.hits) == (True, CLIENTS + 1)


@pytest.mark.parametrize("name", ROUND)
def test_the_answer_is_the_same_without(open_store: Any, tmp_path: Any, name: str) -> None:
    with_, without = open_store(functions=2), open_store(functions=2, derive=False, root=str(tmp_path / "other"))
    for store in (with_, without):
        fill(store, range(1, 4))
        ask(store, name, 2)
        store.flush()
    mine, other = ask(with_, name, 3), ask(without, name, 3)
    assert (mine.record.derived, other.record.derived) == (True, False)
    np.testing.assert_equal(plain(mine.value), plain(other.value))


def test_a_client_that_comes_late_is_part_of_it(open_store: Any) -> None:
    store = open_store(functions=1)
    fill(store, range(1, 4))
    ask(store, "cosine_similarity", 3)
    store.ingest(3, {"late": make_round(3, clients=1)["c0"]})
    store.flush()
    result = ask(store, "cosine_similarity", 3)
    assert result.record.derived
    assert result.value.clients == [*(f"c{i}" for i in range(CLIENTS)), "late"]
    assert result.value.similarity[0, -1] == pytest.approx(1.0)


def test_it_goes_with_its_round(open_store: Any) -> None:
    store = open_store(functions=1)
    fill(store, range(1, 4))
    ask(store, "cosine_similarity", 3)
    store.flush()
    assert derived(store) == 1
    store.delete(rounds=[3], progress=False)
    assert derived(store) == 0
    store.ingest(3, {"c0": make_round(9)["c0"], "c1": make_round(9)["c1"]})
    result = ask(store, "cosine_similarity", 3)
    assert result.value.clients == ["c0", "c1"]


def test_a_lost_function_takes_it_along_and_it_is_derived_again(open_store: Any) -> None:
    store = open_store(functions=2)
    fill(store, range(1, 4))
    ask(store, "cosine_similarity", 3)
    store.flush()
    (name,) = {n for n, keys in store.inventory().items() if any(k.kind == 0 and k.round == 3 for k in keys)}
    faults.kill(store, name)
    ask(store, "clustering", 2)
    store.flush()
    assert ask(store, "cosine_similarity", 3).record.derived


def test_a_function_that_is_busy_does_not_hold_up_a_flush(open_store: Any, tmp_path: Any) -> None:
    store = open_store(functions=1)
    fill(store, range(1, 4))
    ask(store, "cosine_similarity", 3)
    store.flush()
    until = tmp_path / "go"
    busy = store.submit(WaitsForFile(path=str(until)), round=3)
    fill(store, range(4, 5))
    store.flush()
    assert not busy.done()
    assert derived(store) == 1, "of round 3 only"
    until.touch()
    assert busy.result(30).value.clients
    ask(store, "cosine_similarity", 4)
    assert ask(store, "cosine_similarity", 4).record.derived, "kept by the request before"
