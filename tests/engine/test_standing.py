"""A finding stands until something changes: with it and without, the engine decides the same."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from flstore import policies
from flstore.engine import State, standing, step
from flstore.engine.log import _Chain, digest
from flstore.errors import PolicyError
from flstore.types import (
    Deleted,
    Event,
    FunctionJoined,
    FunctionLost,
    Ingested,
    KeySet,
    Kind,
    Load,
    Loaded,
    PolicyClass,
    Requested,
)


def of(round: int, kind: Kind = Kind.METADATA) -> KeySet:
    return KeySet.of_round(0, kind, round, np.arange(5))


def history(seed: int) -> list[Event]:
    """Rounds come and go, functions too; the same tuples of keys are asked for again and again."""
    rng, asked = random.Random(seed), list[Requested]()
    events: list[Event] = [FunctionJoined(0, 4000), FunctionJoined(1, 4000)]
    for r in range(1, 12):
        for kind, size in ((Kind.UPDATE, 300), (Kind.METADATA, 20)):
            events.append(Ingested(of(r, kind), np.full(5, size)))
        asked.append(Requested(0, 0, "hyperparameters", PolicyClass.P4, r, None, (of(r), of(max(1, r - 3)))))
        asked.append(Requested(0, 0, "clustering", PolicyClass.P2, r, None, (of(r, Kind.UPDATE),)))
        for _ in range(12):
            events.append(replace(rng.choice(asked), request=len(events)))
        if r == 5:
            events.append(FunctionLost(1))
        if r == 7:
            events.append(FunctionJoined(1, 4000))
        if r == 9:
            events.append(Deleted((of(8), of(8, Kind.UPDATE))))
    return events


@pytest.mark.parametrize("policy", ["tailored", "p4", "lru"])
@pytest.mark.parametrize("seed", range(5))
def test_decisions_are_those_without_it(policy: str, seed: int) -> None:
    plain, quick = State(), State()
    mine, theirs = policies.make(policy), policies.make(policy)
    rng, first, second = random.Random(seed), _Chain(), ""
    late: list[Loaded] = []
    for event in history(seed):
        again = event
        if isinstance(event, Requested):  # other tuples of the same keys find nothing that stands
            again = replace(event, keys=tuple(replace(keys) for keys in event.keys))
        found, expected = step(quick, mine, event), step(plain, theirs, again)
        assert found == expected
        assert [getattr(a, "counts", None) for a in found] == [getattr(a, "counts", None) for a in expected]
        second = digest(again, expected, second)
        assert first.next(event, found) == second, "nor is the log another one"
        late += [Loaded(a.function, a.keys, a.generation) for a in found if isinstance(a, Load)]
        while late and rng.random() < 0.5:
            report = late.pop(rng.randrange(len(late)))
            step(quick, mine, report)
            step(plain, theirs, report)


def test_it_is_used_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    state, policy = State(instant=True), policies.make("p4")
    step(state, policy, FunctionJoined(0, 4000))
    step(state, policy, Ingested(of(1), np.full(5, 20)))
    event = Requested(1, 0, "hyperparameters", PolicyClass.P4, 1, None, (of(1),))
    first = step(state, policy, event)
    with monkeypatch.context() as patch:
        patch.setattr("flstore.engine.core.classify", None)
        assert step(state, policy, replace(event, request=2)) == [replace(first[0], request=2)]
    for _ in range(3 * standing.MOST):
        step(state, policy, replace(event, keys=(of(1),)))
    assert len(state.standing._found) <= standing.MOST
    step(state, policy, Ingested(of(2), np.full(5, 20)))
    assert not state.standing._found


def test_a_policy_that_fails_is_told_of_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    state, policy = State(instant=True), policies.make("p4")
    step(state, policy, FunctionJoined(0, 4000))
    step(state, policy, Ingested(of(1), np.full(5, 20)))
    event = Requested(1, 0, "hyperparameters", PolicyClass.P4, 1, None, (of(1),))
    runs = step(state, policy, event)
    assert state.standing.get(event.keys) is not None
    monkeypatch.setattr(policy, "decide", lambda event, view: 1 / 0)
    for number in (2, 3):
        with pytest.raises(PolicyError, match="ZeroDivisionError") as failed:
            step(state, policy, replace(event, request=number))
        assert failed.value.actions == (replace(runs[0], request=number),)
