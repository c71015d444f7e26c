"""What no function can hold alone is held in parts: who gets them, what a round's aggregate does, what a loss means."""

from __future__ import annotations

from flstore.engine import EventLog, fold
from flstore.engine.core import reroute
from flstore.types import (
    Action,
    Cut,
    FunctionJoined,
    FunctionLeaving,
    FunctionLost,
    Group,
    KeySet,
    Kind,
    Load,
    Loaded,
    LoadFailed,
    Part,
    Unwant,
    Want,
)
from tests.engine.driver import Script, Scripted, aggregate, drops, ingested, loads, refused, requested, run, updates

ROUND = updates(1, *range(10))


def parts(actions: list[Action]) -> dict[tuple[Kind, int], Part | None]:
    """The part that each function is told to load, by kind."""
    return {(a.keys.kind, a.function): a.part for a in actions if isinstance(a, Load)}


def whole_round(
    *capacities: int, wants: list[Want | Unwant] | None = None, size: int = 10, replicas: int = 0
) -> Scripted:
    script = {1: wants or [Want("o", ROUND)], 2: [Want("o", updates(1, 10))], 3: [Unwant("o")]}
    driver = Scripted(script, *capacities, ingests=[ingested(aggregate(0), size), ingested(ROUND, size)])
    driver.state.replicas = replicas
    return driver


def test_a_round_larger_than_a_function_has_a_part_of_every_update_on_each():
    driver = whole_round(60, 70, 55)
    actions = driver.ask(1)
    assert parts(actions) == {(Kind.UPDATE, 1): Part(0, 2), (Kind.UPDATE, 0): Part(1, 2)}  # the emptiest two
    assert [a.size_bytes for a in actions if isinstance(a, Load)] == [50, 50]
    assert [driver.state.functions[f].used_bytes for f in (0, 1, 2)] == [50, 50, 0]
    assert refused(actions) == {}


def test_a_round_that_fits_one_function_is_not_cut():
    assert set(parts(whole_round(100, 100).ask(1)).values()) == {None}


def test_more_parts_are_taken_where_fewer_find_no_room():
    driver = whole_round(70, 40, 40)
    assert sorted(parts(driver.ask(1)).values()) == [Part(0, 3), Part(1, 3), Part(2, 3)]


def test_the_aggregate_that_a_round_starts_from_is_cut_the_same_way_whichever_comes_first():
    for wants in ([Want("a", aggregate(0)), Want("o", ROUND)], [Want("o", ROUND), Want("a", aggregate(0))]):
        driver = whole_round(70, 70, wants=wants)
        driver.ask(1)
        assert driver.state.striped == {(0, Kind.UPDATE, 1): (0, 1), (0, Kind.AGGREGATE, 0): (0, 1)}
        assert {t.cut for _, t in driver.state.slots()} == {Cut.RANGES}


def test_an_aggregate_larger_than_a_function_is_cut_between_tensors():
    driver = Scripted({1: [Want("o", aggregate(3))]}, 40, 40, 40, ingests=[ingested(aggregate(3), 100)])
    assert parts(driver.ask(1)) == {(Kind.AGGREGATE, f): Part(f, 3, Cut.TENSORS) for f in range(3)}


def test_a_late_client_joins_the_parts_of_the_others_and_more_functions_when_they_are_full():
    roomy, tight = whole_round(90, 90, 90), whole_round(50, 50, 50)
    for driver in (roomy, tight):
        driver.ask(1)
        driver.then(ingested(updates(1, 10), 10))
    late = roomy.ask(2)
    assert parts(late) == {(Kind.UPDATE, f): Part(f, 2) for f in (0, 1)}
    assert {a.size_bytes for a in late if isinstance(a, Load)} == {5}
    anew = tight.ask(2)
    assert {a.part for a in anew if isinstance(a, Load)} == {Part(i, 3) for i in range(3)}
    assert refused(anew) == {}


def test_a_request_finds_the_same_keys_on_every_function_of_the_parts():
    driver = whole_round(60, 60)
    loaded = [a for a in driver.ask(1) if isinstance(a, Load)]
    asked = requested(7, ROUND)
    first = run(driver.then(asked))
    assert [f for f, _ in first.held] == [0, 1]
    assert all(keys == ROUND for _, keys in first.held)
    assert first.counts.late_hits == 10
    driver.then(Loaded(loaded[0].function, loaded[0].keys, loaded[0].generation))
    assert run(driver.then(requested(8, ROUND))).counts.late_hits == 10  # one part of two is not enough
    driver.then(Loaded(loaded[1].function, loaded[1].keys, loaded[1].generation))
    assert run(driver.then(requested(9, ROUND))).counts.hits == 10
    without = reroute(driver.state, asked, avoid=frozenset({1}))
    assert without.held == ()
    assert without.missing == (ROUND,)


def test_a_lost_part_frees_the_others_and_all_find_room_again():
    driver = whole_round(60, 60, 60)
    driver.ask(1)
    actions = driver.then(FunctionLost(0))
    assert set(drops(actions).values()) == {1}
    assert parts(actions) == {(Kind.UPDATE, 1): Part(0, 2), (Kind.UPDATE, 2): Part(1, 2)}
    actions = driver.then(FunctionLost(2))
    assert {a.part for a in actions if isinstance(a, Load)} == {None}  # whole, as many as the last one takes
    assert len(loads(actions)) == 6
    back = driver.then(FunctionJoined(2, 60, "second"))
    assert sorted(parts(back).values()) == [Part(0, 2), Part(1, 2)]


def test_a_function_that_leaves_hands_its_parts_on():
    driver = whole_round(60, 60, 60)
    driver.ask(1)
    actions = driver.then(FunctionLeaving(1))
    assert {f for _, f in parts(actions)} == {0, 2}
    assert driver.state.functions[1].used_bytes == 0


def test_a_part_that_cannot_be_loaded_is_tried_again_when_it_is_asked_for():
    driver = whole_round(60, 60)
    load = next(a for a in driver.ask(1) if isinstance(a, Load) and a.function == 1)
    actions = driver.then(LoadFailed(1, updates(1, 3, 4), "torn", load.generation))
    assert drops(actions)[0, Kind.UPDATE, 1, 3] in (0, 1)
    assert {a.function for a in actions if not isinstance(a, Load)} == {0, 1}
    assert not [a for a in actions if isinstance(a, Load)]
    again = driver.then(requested(9, ROUND))
    assert {(a.function, a.part) for a in again if isinstance(a, Load)} == {(0, Part(0, 2)), (1, Part(1, 2))}
    assert set(loads(again)) == {(0, Kind.UPDATE, 1, 3), (0, Kind.UPDATE, 1, 4)}


def test_what_nobody_wants_any_more_leaves_every_function_and_the_slot_is_whole_again():
    driver = whole_round(60, 60)
    driver.ask(1)
    actions = driver.ask(3)
    assert {a.function for a in actions} == {0, 1}
    assert driver.state.striped == {}
    assert {t.parts for _, t in driver.state.slots()} == {1}


def test_copies_make_way_for_parts_and_parts_have_none():
    script = {1: [Want("a", updates(2, 0))], 2: [Want("o", ROUND)]}
    driver = Scripted(script, 60, 60, ingests=[ingested(updates(2, 0), 10), ingested(ROUND, 10)])
    driver.state.replicas = 1
    assert len([a for a in driver.apply(requested(1)) if isinstance(a, Load)]) == 2
    actions = driver.apply(requested(2))
    assert (Kind.UPDATE, 1) in {(kind, round) for _, kind, round in driver.state.striped}
    driver.check()
    assert {a.part for a in actions if isinstance(a, Load)} >= {Part(0, 2), Part(1, 2)}


def test_one_clients_updates_are_not_cut_unless_one_alone_is_too_large():
    wants = [Want("o", KeySet.of_round(0, Kind.UPDATE, 1, [c]), Group.CLIENT) for c in range(10)]
    assert set(parts(whole_round(60, 60, wants=list(wants)).ask(1)).values()) == {None}
    assert set(parts(whole_round(60, 60, wants=[wants[0]], size=80).ask(1)).values()) == {Part(0, 2), Part(1, 2)}


def test_a_log_with_parts_folds_to_the_same_decisions(tmp_path):
    driver = whole_round(60, 60, 60)
    driver.ask(1)
    driver.then(FunctionLost(0))
    driver.log.save(tmp_path / "log")
    assert fold(EventLog.load(tmp_path / "log"), Script({1: [Want("o", ROUND)]}))[1] == []
