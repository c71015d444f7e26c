"""A live store and its policy: what is refused, what it survives, and what users may say about answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flstore import FLStore, policies
from flstore.engine import fold
from flstore.errors import InvalidParameterError
from flstore.policies import Adaptive, Belady, Policy
from flstore.types import Deleted, Feedback, FunctionJoined, Ingested, KeySet, Kind, Requested, Unwant, Want
from tests.store.conftest import fill, make_round


@pytest.mark.parametrize("policy", ["belady", Belady.from_future([])], ids=["by name", "instance"])
def test_a_policy_that_needs_the_future_is_refused_before_anything_starts(policy: Any, tmp_path: Path):
    with pytest.raises(
        InvalidParameterError, match=r"'belady' decides by requests that are still to come.*replay.*lru"
    ):
        FLStore.local(functions=1, root=str(tmp_path / "root"), policy=policy)
    assert not (tmp_path / "root").exists()


class Faulty(Policy):
    """Behaves like P2 until something is asked of workloads by these names."""

    name: ClassVar[str] = "faulty"

    def __init__(self) -> None:
        self._policy = policies.make("p2")

    def decide(self, event: Any, view: Any) -> Iterable[Any]:
        if isinstance(event, Ingested) and event.keys.rounds == 4:
            raise ArithmeticError("four")
        if isinstance(event, Deleted):
            raise ArithmeticError("deleted")
        said: list[Any] = list(self._policy.decide(event, view))
        if isinstance(event, Requested) and event.workload == "lineage":
            return [*said, "evict it all"]
        if isinstance(event, Requested) and event.workload == "aggregation":
            return [*said, Want("faulty", KeySet.of_round(0, Kind.UPDATE, 77, [0]))]
        return said


def test_the_store_goes_on_without_what_its_policy_does_wrong(open_store: Callable[..., FLStore]):
    store = open_store(policy=Faulty())
    fill(store, range(1, 4))
    assert store.request("cosine_similarity", round=2).record.misses == 6
    with pytest.warns(RuntimeWarning, match=r"'faulty' raised ArithmeticError\('four'\) on Ingested.*goes on without"):
        fill(store, range(4, 5))
    with pytest.warns(RuntimeWarning, match=r"'faulty' returned 'evict it all' on Requested.*goes on without it"):
        assert store.request("lineage", client="c1", round=2).value is not None
    with pytest.warns(
        RuntimeWarning, match=r"'faulty' wants what nobody has, on Requested.*update 77/0.*no such object"
    ):
        store.request("aggregation", round=3)
    store.delete(rounds=[1], progress=False)
    assert store.rounds() == [2, 3, 4]
    assert store.request("cosine_similarity", round=2).record.hits == 5  # what it said before still stands
    store.flush()
    said = [text for _, _, text in store.log.faults()]
    assert [any(what in text for text in said) for what in ("four", "deleted", "evict it all", "77/0")] == [True] * 4
    assert fold(store.log, Faulty())[1] == []
    held = {key for keys in store.inventory().values() for key in keys}
    index = {
        key
        for slots in store._state.holdings().values()
        for (job, kind, round), clients in slots.items()
        for key in store._catalogue.keys(KeySet.of_round(job, kind, round, clients))
    }
    assert held == index


class Greedy(Policy):
    """Wants all that ever came."""

    name: ClassVar[str] = "greedy"

    def decide(self, event: Any, view: Any) -> Iterable[Want | Unwant]:
        if isinstance(event, Ingested):
            yield Want("greedy", event.keys, priority=1000)


def test_a_policy_that_wants_more_than_there_is_gets_what_fits_and_the_log_says_so(open_store: Callable[..., FLStore]):
    store = open_store(policy=Greedy(), memory="128KiB")
    fill(store, range(1, 13))
    first = next((event, text) for _, event, text in store.log.faults())
    assert isinstance(first[0], Ingested)
    assert "refused update" in first[1]
    assert "no room" in first[1]
    assert store.request("cosine_similarity", round=12).record.misses == 6
    assert store.request("cosine_similarity", round=1).record.hits == 6
    store.flush()
    assert all(f.used_bytes <= f.capacity_bytes for f in store._state.functions.values())
    assert fold(store.log, Greedy())[1] == []


def test_tailored_limited_uses_half_of_each_function(open_store: Callable[..., FLStore]):
    store = open_store(policy="tailored-limited")
    joined = next(e.event for e in store.log if isinstance(e.event, FunctionJoined))
    (function,) = store._state.functions.values()
    assert function.capacity_bytes == joined.capacity_bytes // 2


def test_feedback_is_an_event_that_the_adaptive_policy_learns_from(open_store: Callable[..., FLStore]):
    store = open_store(policy="adaptive", policy_options={"seed": 1})
    fill(store, range(1, 4))
    results = [store.request("cosine_similarity", round=r) for r in (1, 2, 3)]
    before = weights(store)
    store.feedback(results[-1], useful=True)
    praised = weights(store)
    store.feedback(results[-1].record.request, useful=False)
    assert weights(store)[1] < before[1] < praised[1]
    assert [e.event for e in store.log if isinstance(e.event, Feedback)] == [Feedback(3, True), Feedback(3, False)]
    store.ingest(4, make_round(4))
    store.flush()
    fresh = Adaptive(seed=1)
    assert fold(store.log, fresh)[1] == []
    assert next(iter(fresh._streams.values())).learner.weights == weights(store)
    for wrong, useful in ((0, True), (99, True), ("3", True), (True, True), (1, "yes")):
        with pytest.raises(InvalidParameterError, match=r"feedback is about|useful must be"):
            store.feedback(wrong, useful)


def weights(store: FLStore) -> list[float]:
    policy = store._policy
    assert isinstance(policy, Adaptive)
    (stream,) = policy._streams.values()
    return list(stream.learner.weights)
