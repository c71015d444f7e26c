"""What is held, wanted and said after a function was lost, came back, or could not load something."""

from __future__ import annotations

import numpy as np

from flstore.types import FunctionJoined, FunctionLost, Group, KeySet, Kind, Load, LoadFailed, Source, Unwant, Want
from tests.engine.driver import Scripted, drops, ingested, keys_of, loads, metadata, refused, requested, updates


def test_what_a_lost_function_held_is_loaded_elsewhere_from_the_store():
    driver = Scripted({1: [Want("o", updates(1, 0, 1))]}, 30, 20, ingests=[ingested(updates(1, 0, 1), 10)])
    driver.ask(1)
    actions = driver.then(FunctionLost(0, "first"))
    assert loads(actions) == {(0, Kind.UPDATE, 1, c): 1 for c in (0, 1)}
    assert {a.source for a in actions if isinstance(a, Load)} == {Source.STORE}


def test_after_a_loss_the_higher_priority_is_served_first():
    script = {1: [Want("low", updates(1, 0), priority=1), Want("high", updates(2, 0), priority=3)]}
    driver = Scripted(script, 30, 10, ingests=[ingested(updates(r, 0), 10) for r in (1, 2)])
    assert set(loads(driver.ask(1)).values()) == {0}
    assert loads(driver.then(FunctionLost(0))) == {(0, Kind.UPDATE, 2, 0): 1}


def test_after_a_loss_a_clients_updates_sit_together_again():
    script = {1: [Want("a", KeySet.of_client(0, Kind.UPDATE, 5, [1, 3]), Group.CLIENT)]}
    driver = Scripted(script, 50, 40, 40, ingests=[ingested(updates(r, 5), 10) for r in (1, 3)])
    assert set(loads(driver.ask(1)).values()) == {0}
    assert set(loads(driver.then(FunctionLost(0))).values()) == {1}


def test_after_a_failed_load_the_higher_priority_is_served_first():
    script = {
        1: [Want("a", updates(1, 0), priority=3)],
        2: [Want("b", updates(2, 0), priority=2)],
        3: [Want("c", updates(3, 0), priority=2)],
        5: [Unwant("b")],
    }
    driver = Scripted(script, 10, ingests=[ingested(updates(r, 0), 10) for r in (1, 2, 3)])
    driver.ask(1)
    driver.then(LoadFailed(0, updates(1, 0), "gone", 1))
    assert set(loads(driver.ask(2))) == {(0, Kind.UPDATE, 2, 0)}  # the room that the failure left
    driver.ask(3)
    driver.then(requested(4, updates(1, 0)))
    assert set(loads(driver.ask(5))) == {(0, Kind.UPDATE, 1, 0)}


def test_late_news_of_an_earlier_incarnation_changes_nothing():
    driver = Scripted({1: [Want("o", updates(1, 0))]}, 30, ingests=[ingested(updates(1, 0), 10)])
    driver.ask(1)
    before = driver.state.holdings()[0][0, Kind.UPDATE, 1].tolist(), driver.state.functions[0].used_bytes
    assert driver.then(FunctionLost(0, "an earlier one")) == []
    assert (driver.state.holdings()[0][0, Kind.UPDATE, 1].tolist(), driver.state.functions[0].used_bytes) == before
    assert driver.then(FunctionLost(8, "first")) == []


def test_a_function_that_joins_keeps_what_is_wanted_and_drops_the_rest():
    script = {1: [Want("o", updates(1, 0, 1, 2))]}
    driver = Scripted(script, 10, ingests=[ingested(updates(1, 0, 1, 2, 3), 10)])
    assert loads(driver.ask(1)) == {(0, Kind.UPDATE, 1, 0): 0}
    holds = ((updates(1, 0, 1, 3), np.array([10] * 3)), (updates(4, 0), np.array([10])))
    actions = driver.then(FunctionJoined(1, 50, "x", holds))
    # 0 is held already, 1 is wanted and adopted, 3 is wanted by nobody, round 4 is unknown; 2 was waiting.
    assert drops(actions) == {(0, Kind.UPDATE, 1, 0): 1, (0, Kind.UPDATE, 1, 3): 1, (0, Kind.UPDATE, 4, 0): 1}
    assert loads(actions) == {(0, Kind.UPDATE, 1, 2): 1}
    assert driver.state.functions[1].used_bytes == 20


def test_adopted_objects_are_ready():
    driver = Scripted({1: [Want("o", updates(1, 0))]}, ingests=[ingested(updates(1, 0), 10)])
    driver.ask(1)
    driver.then(FunctionJoined(1, 50, "x", ((updates(1, 0), np.array([10])),)))
    counts = driver.apply(requested(2, updates(1, 0)))[-1].counts
    assert (counts.hits, counts.late_hits, counts.misses) == (1, 0, 0)


def test_a_function_that_comes_back_without_having_been_lost_is_empty():
    driver = Scripted({1: [Want("o", updates(1, 0, 1))]}, 30, ingests=[ingested(updates(1, 0, 1), 10)])
    driver.ask(1)
    actions = driver.then(FunctionJoined(0, 10, "second", ((updates(1, 1), np.array([10])),)))
    assert set(refused(actions)) == {(0, Kind.UPDATE, 1, 0)}  # it is smaller than it was
    assert driver.state.holdings()[0][0, Kind.UPDATE, 1].tolist() == [1]


def test_an_outdated_object_is_not_adopted():
    """Metadata grew while the function was away: what it holds has another size than what exists."""
    driver = Scripted(
        {1: [Want("o", metadata(1, 0))]}, ingests=[ingested(metadata(1, 0), 3), ingested(metadata(1, 0), 8)]
    )
    driver.ask(1)
    actions = driver.apply(FunctionJoined(0, 10, "x", ((metadata(1, 0), np.array([3])),)))
    assert loads(actions) == {(0, Kind.METADATA, 1, 0): 0}


def test_a_failed_load_is_tried_again_when_somebody_asks():
    driver = Scripted({1: [Want("o", updates(1, 0, 1))]}, 20, ingests=[ingested(updates(1, 0, 1), 10)])
    driver.ask(1)
    actions = driver.then(LoadFailed(0, updates(1, 1), "gone", 1))
    assert (loads(actions), drops(actions)) == ({}, {(0, Kind.UPDATE, 1, 1): 0})  # half of it may have arrived
    assert driver.state.functions[0].used_bytes == 10
    actions = driver.then(requested(2, updates(1, 0, 1)))
    assert loads(actions) == {(0, Kind.UPDATE, 1, 1): 0}
    assert keys_of(actions[-1].held[0][1]) == [(0, Kind.UPDATE, 1, 0), (0, Kind.UPDATE, 1, 1)]


def test_a_failure_reported_by_another_function_than_the_holder_changes_nothing():
    driver = Scripted({1: [Want("o", updates(1, 0))]}, 20, 10, ingests=[ingested(updates(1, 0), 10)])
    assert loads(driver.ask(1)) == {(0, Kind.UPDATE, 1, 0): 0}
    assert loads(driver.then(LoadFailed(1, updates(1, 0), "gone", 9))) == {}
    assert driver.state.holdings()[0][0, Kind.UPDATE, 1].tolist() == [0]


def test_a_failure_of_an_earlier_load_does_not_touch_the_later_one():
    want = Want("o", updates(1, 0))
    driver = Scripted({1: [want], 2: [Unwant("o")], 3: [want]}, 20, ingests=[ingested(updates(1, 0), 10)])
    for number in (1, 2, 3):
        driver.ask(number)
    driver.then(LoadFailed(0, updates(1, 0), "gone", 1))
    assert driver.state.holdings()[0][0, Kind.UPDATE, 1].tolist() == [0]
    assert driver.state.functions[0].used_bytes == 10
    driver.then(LoadFailed(0, updates(1, 0), "gone", 2))
    assert driver.state.functions[0].used_bytes == 0


def test_room_that_a_failure_leaves_is_filled_at_once():
    script = {1: [Want("a", updates(1, 0))], 2: [Want("b", updates(2, 0))]}
    driver = Scripted(script, 10, ingests=[ingested(updates(r, 0), 10) for r in (1, 2)])
    driver.ask(1)
    assert set(refused(driver.ask(2))) == {(0, Kind.UPDATE, 2, 0)}
    assert loads(driver.then(LoadFailed(0, updates(1, 0), "gone", 1))) == {(0, Kind.UPDATE, 2, 0): 0}
