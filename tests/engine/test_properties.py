"""What must hold after any history of ingests, requests, reports and faults, for every policy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flstore import policies
from flstore.engine import State
from flstore.types import Drop, FunctionJoined, Group, Kind, Load, Want
from tests.engine.driver import LIVE, Driver, Script, ingested, keys_of, metadata, requested, updates
from tests.engine.histories import drive, histories

every_policy = pytest.mark.parametrize("policy", LIVE)


@every_policy
@settings(max_examples=70)
@given(history=histories(faults=True))
def test_index_functions_and_wants_agree_after_every_event(policy: str, history):
    drive(history, policy, check=True)


@every_policy
@settings(max_examples=70)
@given(history=histories(faults=True), replicas=st.integers(1, 2))
def test_copies_follow_what_is_held_and_stand_in_for_it(policy: str, history, replicas: int):
    drive(history, policy, check=True, replicas=replicas)


@every_policy
@settings(max_examples=30)
@given(history=histories(faults=True))
def test_an_equal_history_gives_equal_decisions(policy: str, history):
    once, again = drive(history, policy), drive(history, policy)
    assert [e.digest for e in once.log] == [e.digest for e in again.log]
    assert [e.event for e in once.log] == [e.event for e in again.log]


@every_policy
@settings(max_examples=30)
@given(history=histories(faults=False))
def test_functions_end_up_the_same_in_whatever_order_moves_arrive(policy: str, history):
    """Generations alone decide: a load counts unless the object was dropped after it was decided."""
    driver = drive(history, policy)
    loaded: dict[tuple, int] = {}
    dropped: dict[tuple, int] = {}
    for move in driver.moves:
        into = loaded if isinstance(move, Load) else dropped
        for key in keys_of(move.keys):
            at = (move.function, key)
            into[at] = max(move.generation, into.get(at, -1))
    held: dict[int, set] = {f: set() for f in driver.functions}
    for (function, key), generation in loaded.items():
        if generation > dropped.get((function, key), -1):
            held[function].add(key)
    assert held == {f: set(keys) for f, keys in driver.functions.items()}


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    grown=st.lists(st.integers(1, 14), min_size=5, max_size=5),
    capacities=st.lists(st.integers(9, 20), min_size=1, max_size=2),
)
def test_metadata_that_grows_never_fills_a_function_beyond_its_capacity(sizes, grown, capacities):
    driver = Driver(policies.make("p4"))
    for function, capacity in enumerate(capacities):
        driver.apply(FunctionJoined(function, capacity))
    clients = range(len(sizes))
    driver.apply(ingested(metadata(1, *clients), *sizes))
    driver.check()
    driver.apply(ingested(metadata(1, *clients), *grown[: len(sizes)]))
    driver.check()


def test_metadata_that_grows_out_of_its_function_leaves_it():
    driver = Driver(policies.make("p4"))
    driver.apply(FunctionJoined(0, 10))
    driver.apply(ingested(metadata(1, 0, 1), 5, 5))
    actions = driver.apply(ingested(metadata(1, 0), 8))
    driver.check()
    assert any(isinstance(a, Drop) for a in actions)


@pytest.mark.parametrize("policy", ["p1", "tailored"])
def test_a_client_named_twice_in_a_request_is_counted_once(policy: str):
    driver = Driver(policies.make(policy))
    driver.apply(FunctionJoined(0, 100))
    driver.apply(ingested(updates(1, 4, 5), 10))
    driver.apply(requested(1, updates(1, 4, 4), workload="inference"))
    driver.check()
    assert driver.state.functions[0].used_bytes == 10


def test_a_want_said_twice_is_withdrawn_once():
    want = Want("o", updates(1, 0))
    script = Script({1: [want, want], 2: [Want("o", updates(1, 0, 1)), Want("other", updates(1, 0))]})
    driver = Driver(script)
    driver.apply(FunctionJoined(0, 100))
    driver.apply(ingested(updates(1, 0, 1), 10))
    for number in (1, 2):
        driver.apply(requested(number, updates(1, 0)))
        driver.check()
    assert driver.state.table((0, Kind.UPDATE, 1)).wants.tolist() == [2, 1]


def test_groups_and_priorities_are_no_part_of_what_is_wanted():
    script = Script({1: [Want("o", updates(1, 0), Group.CLIENT, 3)], 2: [Want("o", updates(1, 0), Group.ROUND, 0)]})
    driver = Driver(script)
    driver.apply(FunctionJoined(0, 100))
    driver.apply(ingested(updates(1, 0), 10))
    driver.apply(requested(1, updates(1, 0)))
    assert not [a for a in driver.apply(requested(2, updates(1, 0))) if isinstance(a, Load | Drop)]


def test_a_state_starts_empty():
    state = State()
    assert state.holdings() == {}
    assert list(state.slots()) == []
    assert np.array_equal(state.participations(0, 0), [])
