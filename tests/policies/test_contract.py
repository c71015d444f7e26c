"""Every registered policy keeps the contract, and the suite that says so finds policies that do not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import pytest

from flstore import policies
from flstore.policies import FIFO, LFU, LRU, P1, P2, P3, P4, Adaptive, Policy, Random, Static, Tailored, TailoredLimited
from flstore.testing.policies import check_policy
from flstore.types import Deleted, FunctionJoined, Ingested, KeySet, Kind, Requested, Unwant, Want


@pytest.mark.parametrize("name", policies.names())
def test_registered_policies_keep_the_contract(name: str):
    check_policy(policies.get(name))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LRU(fill="write-allocate"),
        lambda: P1(last=0),
        lambda: P2(window=1),
        lambda: P3(cursors=1),
        lambda: P4(rounds=1),
        lambda: Tailored(window=1, last=1, rounds=1, cursors=2),
        lambda: FIFO(fill="write-allocate"),
        lambda: LFU(fill="write-allocate"),
        lambda: TailoredLimited(share=0.1),
        lambda: Random(seed=3, window=1, last=0, rounds=1, cursors=1),
        lambda: Static("P1"),
        lambda: Static("P3"),
        lambda: Static("P4"),
        lambda: Adaptive(seed=3, rate=20.0, drift=0.5, window=1, last=0, rounds=1, cursors=1),
    ],
    ids=["lru", "p1", "p2", "p3", "p4", "tailored", "fifo", "lfu", "limited", "random", "s1", "s3", "s4", "adaptive"],
)
def test_the_smallest_parameters_keep_it_too(make: Callable[[], Policy]):
    check_policy(make, seeds=[11])


class Newest(Policy):
    """Keeps the contract; those below break it in one way each."""

    name: ClassVar[str] = "newest"

    def decide(self, event: Any, view: Any) -> Iterable[Want | Unwant]:
        if isinstance(event, Ingested):
            yield from self.arrived(event, view)

    def arrived(self, event: Ingested, view: Any) -> Iterator[Want | Unwant]:
        yield Unwant(event.keys.job)
        yield Want(event.keys.job, event.keys)


class Guesses(Newest):
    def arrived(self, event: Ingested, view: Any) -> Iterator[Want | Unwant]:
        if random.random() < 0.5:
            yield Want("o", event.keys)


class Remembers(Newest):
    """Shares what it has seen with all its instances."""

    seen: ClassVar[set[Any]] = set()

    def arrived(self, event: Ingested, view: Any) -> Iterator[Want | Unwant]:
        if str(event) not in self.seen:
            self.seen.add(str(event))
            yield Want("o", event.keys)


class Foresees(Newest):
    def arrived(self, event: Ingested, view: Any) -> Iterator[Want | Unwant]:
        if event.keys.kind is Kind.UPDATE:
            yield Want("o", KeySet.of_round(event.keys.job, Kind.UPDATE, event.keys.rounds + 1, event.keys.clients))


class Hoards(Newest):
    """Wants what it has seen once more, whatever became of it."""

    def __init__(self) -> None:
        self.seen: list[KeySet] = []

    def decide(self, event: Any, view: Any) -> Iterable[Want | Unwant]:
        if isinstance(event, Ingested):
            self.seen.append(event.keys)
        if isinstance(event, Deleted):
            yield from (Want("o", keys) for keys in self.seen)


class Evicts(Newest):
    def arrived(self, event: Ingested, view: Any) -> Iterator[Any]:
        yield ("evict", event.keys)


class Trusts(Newest):
    def decide(self, event: Any, view: Any) -> Iterable[Want | Unwant]:
        if isinstance(event, Requested):
            yield Want(
                "o", KeySet.of_round(event.job, Kind.UPDATE, event.keys[0].rounds, [int(event.keys[0].clients[0])])
            )


class Stumbles(Newest):
    def decide(self, event: Any, view: Any) -> Iterable[Want | Unwant]:
        if isinstance(event, FunctionJoined):
            raise KeyError(event.function)
        return []


class Scribbles(Newest):
    def arrived(self, event: Ingested, view: Any) -> Iterator[Want | Unwant]:
        view.participants(event.keys.job, event.keys.rounds, event.keys.kind)[:] = 3
        return iter(())


class Owns(Newest):
    def arrived(self, event: Ingested, view: Any) -> Iterator[Want | Unwant]:
        yield Want(["o"], event.keys)  # type: ignore[arg-type]


def test_the_one_that_keeps_it_passes():
    check_policy(Newest)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Guesses, "decided differently"),
        (Remembers, "decided differently"),
        (Foresees, "do not exist"),
        (Hoards, "do not exist"),
        (Evicts, "only Want, Unwant and Derive"),
        (Trusts, "raised"),
        (Stumbles, "raised KeyError"),
        (Scribbles, "changed"),
        (Owns, "cannot be hashed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_promise_is_found(policy: type[Policy], message: str):
    with pytest.raises(AssertionError, match=message):
        check_policy(policy)


def test_one_instance_for_all_runs_is_no_factory():
    instance = Newest()
    with pytest.raises(AssertionError, match="same instance"):
        check_policy(lambda: instance)


def test_something_else_is_no_policy():
    with pytest.raises(AssertionError, match=r"no flstore\.policies\.Policy"):
        check_policy(dict)  # type: ignore[arg-type]


class Fortune(Newest):
    """Knows the requests to come, and breaks down when there are others."""

    needs_future = True

    def __init__(self, future: Iterable[Requested]) -> None:
        self.future = [request.request for request in future]

    @classmethod
    def from_future(cls, requests: Iterable[Requested]) -> Fortune:
        return cls(requests)

    def decide(self, event: Any, view: Any) -> Iterable[Want | Unwant]:
        if isinstance(event, Requested):
            assert self.future.pop(0) == event.request
        return super().decide(event, view)


def test_a_policy_that_needs_the_future_is_told_the_requests():
    check_policy(Fortune)  # type: ignore[arg-type]


def test_a_share_of_memory_is_a_share():
    with pytest.raises(AssertionError, match=r"share of 'newest' must be above 0 and at most 1, and it is 1\.5"):
        check_policy(type("Greedy", (Newest,), {"share": 1.5}))
