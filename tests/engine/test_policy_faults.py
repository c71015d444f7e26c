"""What meets a policy that breaks the rules: it is named with the event, and the event counts without it."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from flstore.engine import EventLog, State, View, fold, step
from flstore.errors import PolicyError
from flstore.policies.base import Policy
from flstore.types import FunctionJoined, FunctionLost, Kind, Loaded, Requested, Unwant, Want
from tests.engine.driver import Driver, Script, Scripted, ingested, loads, requested, updates

ROUNDS = [ingested(updates(round, 0, 1, 2), 10) for round in (1, 2)]


class Raises(Policy):
    name: ClassVar[str] = "raises"

    def decide(self, event: Any, view: Any) -> Iterable[Want | Unwant]:
        yield Want("o", updates(1, 0))
        raise ZeroDivisionError("by zero")


class Babbles(Policy):
    name: ClassVar[str] = "babbles"

    def decide(self, event: Any, view: Any) -> Any:
        return ["evict everything"]


class Owns(Policy):
    name: ClassVar[str] = "owns"

    def decide(self, event: Any, view: Any) -> Any:
        return [Want("good", updates(1, 0)), Want(["a", "list"], updates(1, 1))]


class Points(Policy):
    name: ClassVar[str] = "points"

    def decide(self, event: Any, view: Any) -> Any:
        return [Want("good", updates(1, 0)), Want("o", (1, 0))]


class Hurries(Policy):
    name: ClassVar[str] = "hurries"

    def decide(self, event: Any, view: Any) -> Any:
        return [Want("good", updates(1, 0)), Want("o", updates(1, 1), priority="high")]


BROKEN: list[tuple[Policy, str]] = [
    (Raises(), "ZeroDivisionError"),
    (Babbles(), "evict everything"),
    (Owns(), "owner cannot be hashed"),
    (Points(), "keys are tuple, not a KeySet"),
    (Hurries(), "priority is str, not int"),
]


@pytest.mark.parametrize(("policy", "said"), BROKEN, ids=lambda value: getattr(value, "name", "said"))
def test_a_policy_that_breaks_the_rules_is_named_with_the_event(policy: Policy, said: str):
    state = State()
    with pytest.raises(
        PolicyError, match=f"'{policy.name}'.*{said}.*FunctionLost|'{policy.name}'.*FunctionLost.*{said}"
    ):
        step(state, policy, FunctionLost(3, "x"))


@pytest.mark.parametrize("policy", [policy for policy, _ in BROKEN], ids=lambda policy: policy.name)
def test_a_policy_that_breaks_the_rules_changes_nothing_that_is_wanted_and_the_event_counts(policy: Policy):
    driver, silent = Scripted({}, 100, ingests=ROUNDS), Scripted({}, 100, ingests=ROUNDS)
    events = [requested(1, updates(1, 0)), ingested(updates(3, 0, 1), 5), FunctionJoined(1, 50, "b"), FunctionLost(0)]
    for event in events:
        with pytest.raises(PolicyError) as caught:
            step(driver.state, policy, event)
        assert list(caught.value.actions) == silent.apply(event)
        assert pickle.loads(pickle.dumps(caught.value)).actions == caught.value.actions
    assert driver.state.holdings() == silent.state.holdings() == {1: {}}
    assert driver.state.table((0, Kind.UPDATE, 1)).wants.tolist() == [0, 0, 0]
    assert driver.state.table((0, Kind.UPDATE, 3)) is not None


def test_a_log_names_what_the_policy_did_wrong_with_its_event_and_folds(tmp_path: Path):
    class Mixed(Policy):
        name: ClassVar[str] = "mixed"

        def decide(self, event: Any, view: Any) -> Iterable[Want | Unwant]:
            if isinstance(event, Requested):
                yield Want("o", updates(1, 0, 1, 2))
                yield Want("o", updates(9, 3))
                if event.request == 2:
                    raise LookupError("lost")

    log = EventLog()
    state, policy = log.start(), Mixed()
    for event in [FunctionJoined(0, 10), ingested(updates(1, 0, 1, 2), 4), *(requested(i) for i in (1, 2, 3))]:
        try:
            log.append(event, step(state, policy, event))
        except PolicyError as error:
            log.append(event, error.actions, error)
    assert [(at, type(event).__name__) for at, event, _ in log.faults()] == [(i, "Requested") for i in (2, 2, 3, 4)]
    absent, room, raised, again = (said for _, _, said in log.faults())
    assert absent == again == "refused update 9/3 (round/client) of job 0: there is no such object"
    assert room == "refused update 1/2 (round/client) of job 0: no room: 4 bytes wanted, 2 bytes free"
    assert "policy 'mixed' raised LookupError('lost') on Requested(request=2" in raised
    assert fold(log, Mixed())[1] == []
    log.save(tmp_path / "log")
    assert [entry.faults for entry in EventLog.load(tmp_path / "log")] == [entry.faults for entry in log]
    assert EventLog.load(tmp_path / "log").faults()[2][2] == raised
    assert fold(log, Raises())[1] != []


def test_a_policy_with_a_share_of_memory_gets_no_more():
    class Half(Script):
        share = 0.5

    driver = Driver(Half({1: [Want("o", updates(1, 0, 1, 2))]}))
    driver.apply(FunctionJoined(0, 10))
    driver.apply(ingested(updates(1, 0, 1, 2), 2))
    assert driver.state.functions[0].capacity_bytes == View(driver.state).capacity_bytes == 5
    assert len(loads(driver.apply(requested(1)))) == 2


def test_a_policy_is_not_asked_about_loads_that_are_done():
    driver = Scripted({}, 100, ingests=ROUNDS)
    assert step(driver.state, Raises(), Loaded(0, updates(1, 0), 1)) == []
