"""Copies in memory: a lost function costs no data in memory, requests spread, functions come and go."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.engine import fold
from flstore.errors import InvalidParameterError
from flstore.policies import make
from flstore.testing import faults
from flstore.types import Demand, FunctionLeaving, Kind, Load, Source
from tests.store.conftest import CLIENTS, fill


def held(store: FLStore) -> Counter[Any]:
    """How many functions hold each object, asked of the functions."""
    return Counter(key for keys in store.inventory().values() for key in keys)


def index(store: FLStore) -> dict[str, set[Any]]:
    """What each function holds, asked of the index."""
    found: dict[str, set[Any]] = {}
    for number, slots in store._state.holdings().items():
        name = store._pool.functions[number].name
        found[name] = set()
        for (job, kind, round), clients in slots.items():
            from flstore.types import KeySet

            found[name].update(store._catalogue.keys(KeySet.of_round(job, kind, round, clients)))
    return found


def agree(store: FLStore) -> None:
    store.flush()
    assert {name: set(keys) for name, keys in store.inventory().items()} == index(store)


def warm(store: FLStore, rounds: range = range(1, 4)) -> Any:
    fill(store, rounds)
    answer = store.request("cosine_similarity", round=rounds[-1])
    store.flush()
    return answer.value.similarity


def test_what_is_held_is_held_twice_on_two_functions(open_store: Any) -> None:
    store = open_store(functions=2, replicas=1)
    warm(store)
    agree(store)
    counts = held(store)
    assert counts
    assert set(counts.values()) == {2}


def test_two_copies_decided_at_once_do_not_wait_for_each_other(open_store: Any) -> None:
    store = open_store(functions=3, replicas=2)
    fill(store, range(1, 4))
    store.request("cosine_similarity", round=3)
    flushed = threading.Thread(target=store.flush, daemon=True)
    flushed.start()
    flushed.join(30)
    assert not flushed.is_alive()
    agree(store)
    assert set(held(store).values()) == {3}


def test_a_copy_comes_from_the_other_function_not_from_the_store(open_store: Any, tmp_path: Any) -> None:
    store = open_store(functions=2, replicas=0)
    expected = warm(store)
    for path in (tmp_path / "root").rglob("*.safetensors"):
        path.unlink()
    store.scale(3)
    (name,) = {n for n, keys in store.inventory().items() if any(k.kind is Kind.UPDATE for k in keys)}
    with store._lock:
        store._note(FunctionLeaving(next(n for n, f in store._pool.functions.items() if f.name == name)))
    agree(store)
    counts = held(store)
    assert {n for k, n in counts.items() if k.kind is Kind.UPDATE and k.round == 3} == {2}
    answer = store.request("cosine_similarity", round=3)
    np.testing.assert_array_equal(answer.value.similarity, expected)
    assert answer.record.functions != [name], "one that stays answers"


def test_a_killed_function_costs_no_data_in_memory(open_store: Any) -> None:
    store = open_store(functions=3, replicas=1)
    expected = warm(store)
    for name in ("function-0", "function-1", "function-2"):
        before = faults.functions(store)[name]
        faults.kill(store, name)
        answer = store.request("cosine_similarity", round=3)
        np.testing.assert_array_equal(answer.value.similarity, expected)
        assert (answer.record.misses, answer.record.bytes_moved) == (0, 0)
        faults.await_function(store, name, before)
        agree(store)
        assert min(held(store).values()) == 2, "the copies are restored"


def test_a_request_under_way_goes_on_with_a_copy_when_its_function_is_killed(open_store: Any) -> None:
    store = open_store(functions=2, replicas=1)
    expected = warm(store)
    holder = store.request("cosine_similarity", round=3).record.functions[-1]
    with faults.hang(store, holder):
        future = store.submit("cosine_similarity", round=3)
        faults.kill(store, holder)
        answer = future.result(60)
    np.testing.assert_array_equal(answer.value.similarity, expected)
    assert answer.record.functions[-1] != holder
    assert answer.record.hits == CLIENTS + 1


def test_requests_spread_over_copies(open_store: Any) -> None:
    store = open_store(functions=2, replicas=1)
    warm(store)
    answers = [store.submit("cosine_similarity", round=3) for _ in range(40)]
    where = Counter(answer.result(60).record.functions[-1] for answer in answers)
    assert set(where) == {"function-0", "function-1"}


def test_a_round_for_which_requests_queue_gets_more_copies_and_loses_them_again(
    open_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flstore.heat.COOL_S", 0.05)
    store = open_store(functions=3)
    warm(store)
    answers = [store.submit("cosine_similarity", round=3) for _ in range(60)]
    for answer in answers:
        answer.result(60)
    asked = [e.event for e in store.log if isinstance(e.event, Demand)]
    assert {d.copies for d in asked} >= {1, 2}
    assert {round for d in asked for round, _ in d.keys.by_round()} == {2, 3}, "the updates and what they started from"
    wait_until(lambda: sum(isinstance(e.event, Demand) and not e.event.copies for e in store.log) == 2)
    agree(store)
    assert set(held(store).values()) == {1}


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_copies_make_way_for_what_policies_want(open_store: Any) -> None:
    # A round has about 42 kB and an aggregate 8; the two functions cache 192 kB together.
    store = open_store(functions=2, replicas=1, memory="128KiB")
    warm(store, range(1, 2))
    assert set(held(store).values()) == {2}
    fill(store, range(2, 4))
    for r in (1, 2, 3):
        assert store.request("clustering", round=r, k=2).record.misses == 0
        agree(store)


def test_fewer_functions_keep_what_was_in_memory(open_store: Any) -> None:
    store = open_store(functions=3)
    expected = warm(store)
    before = set(held(store))
    store.scale(1)
    assert len(store.status().functions) == 1
    agree(store)
    assert set(held(store)) == before
    answer = store.request("cosine_similarity", round=3)
    np.testing.assert_array_equal(answer.value.similarity, expected)
    assert (answer.record.misses, answer.record.late_hits) == (0, 0)
    moved = [e.event for e in store.log if isinstance(e.event, FunctionLeaving)]
    assert len(moved) == 2


def test_more_functions_take_part(open_store: Any) -> None:
    store = open_store(functions=1, replicas=1)
    warm(store)
    assert set(held(store).values()) == {1}
    store.scale(2)
    agree(store)
    assert set(held(store).values()) == {2}, "the copies that had no place have one now"


def test_scaling_while_requests_run(open_store: Any) -> None:
    store = open_store(functions=2, replicas=1)
    expected = warm(store)
    answers = []
    for n in (3, 1, 2):
        answers += [store.submit("cosine_similarity", round=3) for _ in range(20)]
        store.scale(n)
    for answer in answers:
        np.testing.assert_array_equal(answer.result(60).value.similarity, expected)


def test_bad_numbers_are_named(open_store: Any) -> None:
    store = open_store(functions=1)
    for n in (0, True, 1.5):
        with pytest.raises(InvalidParameterError, match=repr(n)):
            store.scale(n)
    with pytest.raises(InvalidParameterError, match="got -1"):
        FLStore.local(root="memory://replicas", replicas=-1)


def test_a_log_with_copies_and_removals_folds_to_the_same_decisions(open_store: Any) -> None:
    store = open_store(functions=2, replicas=1)
    warm(store)
    store.scale(3)
    fill(store, range(4, 6))
    store.scale(2)
    agree(store)
    state, differing = fold(store.log, make("tailored"))
    assert differing == []
    assert any(isinstance(a, Load) and a.source is Source.PEER for a in _actions(store))
    holdings, expected = state.holdings(), store._state.holdings()
    assert holdings.keys() == expected.keys()
    for f, slots in expected.items():
        assert {s: c.tolist() for s, c in slots.items()} == {s: c.tolist() for s, c in holdings[f].items()}


def _actions(store: FLStore) -> list[Any]:
    from flstore.engine import step

    state, policy = store.log.start(), make("tailored")
    return [action for entry in store.log for action in step(state, policy, entry.event)]
