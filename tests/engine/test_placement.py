"""Where wanted objects go, what is refused and why, and when a refused want is met after all."""

from __future__ import annotations

from typing import Any

import pytest

from flstore.types import (
    FunctionJoined,
    Group,
    KeySet,
    Kind,
    Load,
    Source,
    Unwant,
    Want,
)
from tests.engine.driver import (
    Driver,
    Scripted,
    aggregate,
    drops,
    ingested,
    loads,
    metadata,
    refused,
    requested,
    updates,
)


def test_a_round_sits_together_and_the_next_one_where_most_room_is():
    script = {r: [Want("o", updates(r, 0, 1, 2))] for r in (1, 2)}
    driver = Scripted(script, 60, 61, ingests=[ingested(updates(r, 0, 1, 2), 10) for r in (1, 2)])
    assert set(loads(driver.ask(1)).values()) == {1}
    assert set(loads(driver.ask(2)).values()) == {0}


def test_equally_empty_functions_are_taken_in_the_order_of_their_numbers():
    driver = Scripted({1: [Want("o", updates(1, 0))]}, 50, 50, 50, ingests=[ingested(updates(1, 0), 10)])
    assert set(loads(driver.ask(1)).values()) == {0}


def test_late_clients_of_a_round_join_the_others():
    script = {1: [Want("o", updates(1, 0))], 2: [Want("o", updates(1, 0, 1, 2))]}
    driver = Scripted(script, 50, 90, 60, ingests=[ingested(updates(1, 0), 50)])
    assert set(loads(driver.ask(1)).values()) == {1}
    driver.then(ingested(updates(1, 1, 2), 20))
    assert loads(driver.ask(2)) == {(0, Kind.UPDATE, 1, c): 1 for c in (1, 2)}  # although function 2 has more room


def test_a_round_that_does_not_fit_one_function_spills_over():
    """Whole updates, where the functions cannot hold a part of every one of them."""
    driver = Scripted({1: [Want("o", updates(1, *range(6)))]}, 25, 45, ingests=[ingested(updates(1, *range(6)), 10)])
    actions = driver.ask(1)
    assert refused(actions) == {}
    assert sorted(loads(actions).values()) == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("aggregate_first", [True, False])
def test_an_aggregate_sits_with_the_round_that_starts_from_it(aggregate_first: bool):
    """Round 7's updates minus aggregate 6 are deltas: one function must have both, not round 6's."""
    wants = [Want("o", aggregate(6)), Want("o", updates(7, 0, 1))]
    script = {1: [Want("o", updates(6, 0, 1))], 2: wants[:: 1 if aggregate_first else -1][:1], 3: wants}
    ingests = [ingested(updates(6, 0, 1), 10), ingested(aggregate(6), 10), ingested(updates(7, 0, 1), 10)]
    driver = Scripted(script, 100, 99, ingests=ingests)
    assert set(loads(driver.ask(1)).values()) == {0}
    driver.ask(2)
    driver.ask(3)
    where = {slot: f for f, held in driver.state.holdings().items() for slot in held}
    assert where[0, Kind.AGGREGATE, 6] == where[0, Kind.UPDATE, 7] == 1
    assert where[0, Kind.UPDATE, 6] == 0


def test_the_updates_of_a_client_sit_together():
    script: dict[int, list[Any]] = {1: [Want("a", KeySet.of_client(0, Kind.UPDATE, 5, [1]), Group.CLIENT)]}
    for number, round in ((2, 4), (3, 3)):
        script[number] = [Want("a", KeySet.of_client(0, Kind.UPDATE, 5, [round]), Group.CLIENT)]
    rounds = [(1, (5, 6)), (2, (6,)), (3, (5, 6)), (4, (6, 5))]
    driver = Scripted(script, 100, 60, 100, ingests=[ingested(updates(r, *who), 10) for r, who in rounds])
    assert loads(driver.ask(1)) == {(0, Kind.UPDATE, 1, 5): 0}
    assert loads(driver.ask(2)) == {(0, Kind.UPDATE, 4, 5): 2}  # its neighbour, round 3, is nowhere yet
    assert loads(driver.ask(3)) == {(0, Kind.UPDATE, 3, 5): 0}  # with round 1, the participation before
    driver.check()


def test_the_next_participation_goes_where_the_client_is_though_more_room_is_elsewhere():
    script = {r: [Want("a", KeySet.of_client(0, Kind.UPDATE, 5, [r]), Group.CLIENT)] for r in (1, 3, 9)}
    driver = Scripted(script, 50, 49, ingests=[ingested(updates(r, 5, 6), 10) for r in (1, 3, 9)])
    assert [list(loads(driver.ask(r)).values()) for r in (1, 3, 9)] == [[0], [0], [0]]


def test_metadata_of_neighbouring_rounds_sit_together():
    script = {r: [Want("m", metadata(r, 0, 1))] for r in (3, 4, 2)}
    driver = Scripted(script, 50, 50, ingests=[ingested(metadata(r, 0, 1), 2) for r in (2, 3, 4)])
    assert [set(loads(driver.ask(r)).values()) for r in (3, 4, 2)] == [{0}, {0}, {0}]


def test_what_arrives_is_loaded_from_the_ingest_and_what_was_there_from_the_store():
    from flstore import policies

    driver = Driver(policies.make("p2"))
    driver.apply(FunctionJoined(0, 100))
    driver.apply(ingested(updates(1, 0), 10))
    (load,) = [a for a in driver.apply(requested(1, updates(1, 0))) if isinstance(a, Load)]
    assert (load.source, load.size_bytes, load.generation, load.priority) == (Source.STORE, 10, 1, 3)
    (load,) = [a for a in driver.apply(ingested(updates(2, 0, 1), 7, 8)) if isinstance(a, Load)]
    assert (load.source, load.size_bytes, load.generation, load.priority) == (Source.INGEST, 15, 2, 1)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_what_finds_no_room_is_refused_with_the_bytes_that_were_missing():
    driver = Scripted({1: [Want("o", updates(1, *range(5)))]}, 25, 25, ingests=[ingested(updates(1, *range(5)), 10)])
    actions = driver.ask(1)
    assert len(loads(actions)) == 4
    assert refused(actions) == {(0, Kind.UPDATE, 1, 4): "no room: 10 bytes wanted, 10 bytes free"}


def test_what_no_function_could_ever_hold_is_refused_as_such():
    driver = Scripted({1: [Want("o", updates(1, 0, 1))]}, 25, 12, ingests=[ingested(updates(1, 0, 1), 26, 5)])
    actions = driver.ask(1)
    assert loads(actions) == {(0, Kind.UPDATE, 1, 1): 0}
    assert refused(actions) == {
        (0, Kind.UPDATE, 1, 0): "an object of 26 bytes is larger than the largest function (25 bytes)"
    }


def test_without_a_function_everything_is_refused_and_met_when_one_joins():
    driver = Scripted({1: [Want("o", updates(1, 0))]}, ingests=[ingested(updates(1, 0), 10)])
    assert refused(driver.ask(1)) == {(0, Kind.UPDATE, 1, 0): "no function is alive"}
    assert loads(driver.then(FunctionJoined(7, 10))) == {(0, Kind.UPDATE, 1, 0): 7}


def test_what_does_not_exist_is_refused_and_not_waited_for():
    driver = Scripted(
        {1: [Want("o", updates(1, 0, 3))], 2: [Want("o", updates(9, 0))]}, 100, ingests=[ingested(updates(1, 0), 10)]
    )
    actions = driver.ask(1)
    assert loads(actions) == {(0, Kind.UPDATE, 1, 0): 0}
    assert refused(actions) == {(0, Kind.UPDATE, 1, 3): "there is no such object"}
    assert refused(driver.ask(2)) == {(0, Kind.UPDATE, 9, 0): "there is no such object"}
    assert loads(driver.then(ingested(updates(1, 3), 10))) == {}


def test_a_refusal_is_said_once():
    driver = Scripted({1: [Want("o", updates(1, 0, 1))]}, 10, ingests=[ingested(updates(1, 0, 1), 10)])
    assert len(refused(driver.ask(1))) == 1
    assert refused(driver.then(ingested(updates(2, 0), 10))) == {}
    assert refused(driver.then(requested(2, updates(2, 0)))) == {}


def test_a_smaller_object_takes_the_room_that_a_larger_one_cannot_use():
    script = {1: [Want("o", updates(1, 0), priority=5), Want("o", updates(2, 0))]}
    driver = Scripted(script, 10, ingests=[ingested(updates(1, 0), 12), ingested(updates(2, 0), 9)])
    assert loads(driver.ask(1)) == {(0, Kind.UPDATE, 2, 0): 0}


# --- waiting --------------------------------------------------------------------------------------------------------


def test_a_waiting_want_is_met_in_the_step_that_makes_room():
    script = {1: [Want("a", updates(1, 0))], 2: [Want("b", updates(2, 0))], 3: [Unwant("a")]}
    driver = Scripted(script, 10, ingests=[ingested(updates(r, 0), 10) for r in (1, 2)])
    driver.ask(1)
    assert loads(driver.ask(2)) == {}
    actions = driver.ask(3)
    assert drops(actions) == {(0, Kind.UPDATE, 1, 0): 0}
    assert loads(actions) == {(0, Kind.UPDATE, 2, 0): 0}
    assert [type(a).__name__ for a in actions] == ["Drop", "Load", "Run"]
    assert actions[0].generation < actions[1].generation


def test_a_waiting_want_is_met_when_a_function_joins_and_forgotten_when_it_is_withdrawn():
    script = {1: [Want("a", updates(1, 0)), Want("b", updates(2, 0)), Want("c", updates(3, 0))], 2: [Unwant("b")]}
    driver = Scripted(script, 10, ingests=[ingested(updates(r, 0), 10) for r in (1, 2, 3)])
    assert set(refused(driver.ask(1))) == {(0, Kind.UPDATE, 2, 0), (0, Kind.UPDATE, 3, 0)}
    driver.ask(2)
    assert loads(driver.then(FunctionJoined(1, 100))) == {(0, Kind.UPDATE, 3, 0): 1}


def test_the_higher_priority_is_served_first_and_the_earlier_one_among_equals():
    script: dict[int, list[Any]] = {
        1: [Want("full", updates(1, 0))],
        2: [Want("low", updates(2, 0), priority=1)],
        3: [Want("high", updates(3, 0), priority=2)],
        4: [Want("late", updates(4, 0), priority=2)],
        5: [Unwant("full")],
        6: [Unwant("high")],
        7: [Unwant("late")],
    }
    driver = Scripted(script, 10, ingests=[ingested(updates(r, 0), 10) for r in (1, 2, 3, 4)])
    for number in (1, 2, 3, 4):
        driver.ask(number)
    served = [round for number in (5, 6, 7) for (_, _, round, _) in loads(driver.ask(number))]
    assert served == [3, 4, 2]


def test_within_one_decision_the_higher_priority_is_served_first():
    script = {1: [Want("a", updates(1, 0), priority=0), Want("b", updates(2, 0), priority=3)]}
    driver = Scripted(script, 10, ingests=[ingested(updates(r, 0), 10) for r in (1, 2)])
    assert set(loads(driver.ask(1))) == {(0, Kind.UPDATE, 2, 0)}


def test_a_second_owner_raises_the_priority_of_what_waits():
    script = {
        1: [Want("full", updates(1, 0))],
        2: [Want("a", updates(2, 0), priority=1), Want("b", updates(3, 0), priority=2)],
        3: [Want("c", updates(2, 0), priority=3)],
        4: [Unwant("full")],
    }
    driver = Scripted(script, 10, ingests=[ingested(updates(r, 0), 10) for r in (1, 2, 3)])
    for number in (1, 2, 3):
        driver.ask(number)
    assert set(loads(driver.ask(4))) == {(0, Kind.UPDATE, 2, 0)}


def test_what_two_want_stays_until_both_let_go():
    script = {
        1: [Want("a", updates(1, 0, 1)), Want("b", updates(1, 1))],
        2: [Unwant("a")],
        3: [Unwant("b", updates(1, 1))],
    }
    driver = Scripted(script, 100, ingests=[ingested(updates(1, 0, 1), 10)])
    driver.ask(1)
    assert drops(driver.ask(2)) == {(0, Kind.UPDATE, 1, 0): 0}
    assert drops(driver.ask(3)) == {(0, Kind.UPDATE, 1, 1): 0}


def test_what_one_owner_hands_to_another_is_not_moved():
    script = {1: [Want("a", updates(1, 0))], 2: [Unwant("a"), Want("b", updates(1, 0))]}
    driver = Scripted(script, 100, ingests=[ingested(updates(1, 0), 10)])
    driver.ask(1)
    actions = driver.ask(2)
    assert loads(actions) == drops(actions) == {}
