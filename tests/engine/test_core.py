"""One step: what is counted as a hit, which function a request runs on, and what meets a policy that breaks rules."""

from __future__ import annotations

from typing import Any

import pytest

from flstore import policies
from flstore.engine import State, Tracker, reroute, step
from flstore.types import Counts, FunctionJoined, KeySet, Kind, Load, Loaded, LoadFailed, Unwant, Want
from tests.engine.driver import Driver, Script, aggregate, drops, ingested, keys_of, loads, requested, run, updates


def started(script: dict[int, list[Any]], *capacities: int) -> Driver:
    """Rounds 1 and 2 of clients 0 to 2, 10 bytes an update."""
    driver = Driver(Script(script))
    for function, capacity in enumerate(capacities):
        driver.apply(FunctionJoined(function, capacity))
    for round in (1, 2):
        driver.apply(ingested(updates(round, 0, 1, 2), 10))
    return driver


def test_keys_count_as_they_stood_before_the_event():
    driver = started({1: [Want("o", updates(1, 0, 1))]}, 100)
    actions = driver.apply(requested(1, updates(1, 0, 1, 2), updates(7, 0)))
    assert run(actions).counts == Counts(hits=0, late_hits=0, misses=4)  # although two of them are wanted now
    assert run(driver.apply(requested(2, updates(1, 0, 1, 2)))).counts == Counts(hits=0, late_hits=2, misses=1)
    driver.apply(Loaded(0, updates(1, 1), 1))
    assert run(driver.apply(requested(3, updates(1, 0, 1, 2), updates(2, 1)))).counts == Counts(1, 1, 2)
    driver.apply(LoadFailed(0, updates(1, 1), "gone", 1))
    assert run(driver.apply(requested(4, updates(1, 1)))).counts == Counts(0, 0, 1)
    assert run(driver.apply(requested(5, updates(1, 1)))).counts == Counts(0, 1, 0)  # request 4 had it loaded anew


@pytest.mark.parametrize(("function", "generation"), [(0, 0), (0, 2), (1, 1), (9, 1)])
def test_a_report_on_another_load_makes_nothing_ready(function: int, generation: int):
    driver = started({1: [Want("o", updates(1, 0))]}, 100, 50)
    driver.apply(requested(1, updates(1, 0)))
    assert driver.apply(Loaded(function, updates(1, 0), generation)) == []
    assert run(driver.apply(requested(2, updates(1, 0)))).counts == Counts(late_hits=1)


def test_a_report_on_what_was_dropped_meanwhile_makes_nothing_ready():
    want = Want("o", updates(1, 0))
    driver = started({1: [want], 2: [Unwant("o")], 3: [want]}, 100)
    for number in (1, 2):
        driver.apply(requested(number))
    driver.apply(Loaded(0, updates(1, 0), 1))
    assert run(driver.apply(requested(3, updates(1, 0)))).counts == Counts(misses=1)
    driver.apply(Loaded(0, updates(1, 0), 1))
    assert run(driver.apply(requested(4, updates(1, 0)))).counts == Counts(late_hits=1)
    driver.apply(Loaded(0, updates(1, 0), 2))
    assert run(driver.apply(requested(5, updates(1, 0)))).counts == Counts(hits=1)


def test_reports_on_unknown_objects_are_ignored():
    driver = started({}, 100)
    assert driver.apply(Loaded(0, updates(40, 0), 1)) == []
    assert step(driver.state, driver.policy, LoadFailed(5, updates(40, 0), "gone", 1)) == []
    assert step(driver.state, driver.policy, LoadFailed(5, updates(1, 0, 9), "gone", 1)) == []
    driver.check()


def test_loads_of_a_state_without_time_are_ready_at_once():
    state, policy = State(instant=True), policies.make("p2")
    for event in (FunctionJoined(0, 100), ingested(updates(1, 0), 10), requested(1, updates(1, 0))):
        step(state, policy, event)
    assert run(step(state, policy, requested(2, updates(1, 0)))).counts == Counts(hits=1)


# --- where a request runs -------------------------------------------------------------------------------------------


def test_a_request_runs_where_most_of_its_bytes_are():
    script = {1: [Want("o", updates(1, 0, 1)), Want("o", updates(2, 0))], 2: []}
    driver = started(script, 20, 30)
    where = loads(driver.apply(requested(1)))
    round_1, round_2 = where[0, Kind.UPDATE, 1, 0], where[0, Kind.UPDATE, 2, 0]
    assert round_1 != round_2
    found = run(driver.apply(requested(2, updates(1, 0, 1, 2), updates(2, 0))))
    assert found.function == round_1
    assert {(f, key) for f, keys in found.held for key in keys_of(keys)} == {
        (round_1, (0, Kind.UPDATE, 1, 0)), (round_1, (0, Kind.UPDATE, 1, 1)), (round_2, (0, Kind.UPDATE, 2, 0)),
    }  # fmt: skip
    assert [key for keys in found.missing for key in keys_of(keys)] == [(0, Kind.UPDATE, 1, 2)]
    assert run(driver.apply(requested(3, updates(2, 0), updates(1, 2)))).function == round_2


def test_bytes_decide_and_not_the_number_of_objects():
    driver = Driver(Script({1: [Want("o", updates(1, 0)), Want("o", updates(2, 0, 1, 2))]}))
    for function in (0, 1):
        driver.apply(FunctionJoined(function, 40 - function))
    driver.apply(ingested(updates(1, 0), 40))
    driver.apply(ingested(updates(2, 0, 1, 2), 3))
    where = loads(driver.apply(requested(1)))
    assert set(where.values()) == {0, 1}
    assert run(driver.apply(requested(2, updates(1, 0), updates(2, 0, 1, 2)))).function == where[0, Kind.UPDATE, 1, 0]


def test_a_request_of_which_nothing_is_held_runs_where_most_room_is():
    driver = started({1: [Want("o", updates(1, 0, 1))]}, 50, 35)
    assert run(driver.apply(requested(1, updates(2, 0)))).function == 1
    assert run(driver.apply(requested(2, updates(1, 0)))).function == 0


def test_without_a_function_a_request_runs_nowhere_and_can_be_sent_again_later():
    driver = started({})
    event = requested(1, updates(1, 0))
    found = run(driver.apply(event))
    assert (found.function, found.held) == (-1, ())
    driver.apply(FunctionJoined(4, 100))
    before = [entry.digest for entry in driver.log]
    assert reroute(driver.state, event).function == 4
    driver.check()
    assert [entry.digest for entry in driver.log] == before


def test_a_request_sees_what_it_made_the_engine_load():
    driver = started({}, 100)
    fresh = policies.make("p2")
    found = run(step(driver.state, fresh, requested(1, updates(1, 0))))
    assert [key for _, keys in found.held for key in keys_of(keys)] == [(0, Kind.UPDATE, 1, 0)]
    assert found.missing == ()
    assert found.counts == Counts(misses=1)


def test_an_aggregate_is_named_by_its_round_alone():
    driver = Driver(Script({1: [Want("o", aggregate(3))], 2: [Unwant("o", aggregate(3))]}))
    driver.apply(FunctionJoined(0, 10))
    driver.apply(ingested(aggregate(3), 10))
    (load,) = [a for a in driver.apply(requested(1)) if isinstance(a, Load)]
    assert load.keys == aggregate(3)
    assert list(drops(driver.apply(requested(2)))) == keys_of(aggregate(3))


def test_objects_are_ingested_round_by_round():
    state = State()
    with pytest.raises(TypeError, match="round by round"):
        state.register(KeySet.of_client(0, Kind.UPDATE, 1, [1, 2]), [1, 1])


# --- the tracker ----------------------------------------------------------------------------------------------------


def test_the_tracker_numbers_requests_and_shows_them_as_rows():
    tracker = Tracker("FLStore")
    first = tracker.open("job", "clustering", "P2", 3, None)
    second = tracker.open("job", "lineage", "P3", None, "a")
    first.hits, first.misses, first.functions = 9, 1, ["f0", "f1"]
    assert (first.request, second.request, len(tracker)) == (1, 2, 2)
    assert first.hit_ratio == 0.9
    assert second.hit_ratio != second.hit_ratio
    frame = tracker.frame()
    assert frame.index.tolist() == [1, 2]
    assert frame.loc[1, ["workload", "functions", "hits", "misses", "status"]].tolist() == [
        "clustering",
        "f0 f1",
        9,
        1,
        "running",
    ]
    assert Tracker("FLStore").frame().empty
