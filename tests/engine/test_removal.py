"""Deleted objects: forgotten by the index, dropped by every holder, and others take their room."""

from __future__ import annotations

import numpy as np

from flstore.engine import State
from flstore.types import (
    Deleted,
    Drop,
    FunctionJoined,
    FunctionLost,
    KeySet,
    Kind,
    Load,
    Loaded,
    LoadFailed,
    Want,
)
from tests.engine.driver import Driver, Script, Scripted, deleted, drops, ingested, loads, refused, requested, updates

U = Kind.UPDATE


def test_the_holder_is_told_and_the_rest_of_the_round_stays():
    driver = Scripted({1: [Want("o", updates(1, 0, 1, 2))]}, 30, ingests=[ingested(updates(1, 0, 1, 2), 10)])
    driver.ask(1)
    assert drops(driver.then(deleted(updates(1, 1)))) == {(0, U, 1, 1): 0}
    assert driver.state.functions[0].used_bytes == 20
    assert driver.state.holdings()[0][0, U, 1].tolist() == [0, 2]
    assert driver.then(deleted(updates(1, 1))) == []  # twice is once


def test_every_copy_is_dropped():
    driver = Driver(Script({1: [Want("o", updates(1, 0, 1))]}), replicas=1)
    for f in (0, 1):
        driver.apply(FunctionJoined(f, 50, "first"))
    driver.apply(ingested(updates(1, 0, 1), 10))
    driver.apply(requested(1))
    told = driver.apply(deleted(updates(1, 0)))
    driver.check()
    assert sorted(a.function for a in told if isinstance(a, Drop)) == [0, 1]
    assert [f.copy_bytes for f in driver.state.functions.values()] in ([10, 0], [0, 10])
    driver.apply(deleted(updates(1, 1)))
    driver.check()
    assert (driver.state.copied, driver.state.short, driver.state.tables) == ({}, {}, {})


def test_what_waits_gets_the_room():
    script = {1: [Want("o", updates(1, 0), priority=2), Want("o", updates(2, 5), priority=1)]}
    driver = Scripted(script, 10, ingests=[ingested(updates(1, 0), 10), ingested(updates(2, 5), 10)])
    assert refused(driver.ask(1)).keys() == {(0, U, 2, 5)}
    actions = driver.then(deleted(updates(1, 0)))
    assert loads(actions) == {(0, U, 2, 5): 0}


def test_what_waits_for_room_is_forgotten_too():
    script = {1: [Want("o", updates(1, 0, 1, 2, 3))]}
    driver = Scripted(script, 10, ingests=[ingested(updates(1, 0, 1, 2, 3), 10)])
    driver.ask(1)
    driver.then(deleted(updates(1, 1, 2)))
    assert [w.rows.tolist() for w in driver.state.waiting] == [[1]]
    assert loads(driver.then(deleted(updates(1, 0)))) == {(0, U, 1, 3): 0}
    driver.then(deleted(updates(1, 3)))
    assert driver.state.waiting == []


def test_late_reports_on_an_object_of_the_same_name_do_not_count():
    wants = {1: [Want("o", updates(1, 0))], 2: [Want("o", updates(1, 0))]}
    driver = Scripted(wants, 30, ingests=[ingested(updates(1, 0), 10)])
    (old,) = [a for a in driver.ask(1) if isinstance(a, Load)]
    (drop,) = driver.then(deleted(updates(1, 0)))
    assert isinstance(drop, Drop)
    driver.then(ingested(updates(1, 0), 10))
    (new,) = [a for a in driver.ask(2) if isinstance(a, Load)]
    assert old.generation <= drop.generation < new.generation
    driver.then(Loaded(0, updates(1, 0), old.generation))
    table = driver.state.table((0, U, 1))
    assert table is not None
    assert not table.ready[0]
    driver.then(LoadFailed(0, updates(1, 0), "gone", old.generation))
    assert table.function.tolist() == [0]
    driver.then(Loaded(0, updates(1, 0), new.generation))
    assert table.ready.tolist() == [True]


def test_a_function_that_comes_back_with_deleted_objects_drops_them():
    driver = Scripted({1: [Want("o", updates(1, 0, 1))]}, 30, ingests=[ingested(updates(1, 0, 1), 10)])
    driver.ask(1)
    driver.then(FunctionLost(0, "first"))
    driver.then(deleted(updates(1, 0)))
    driver.then(ingested(updates(1, 0), 10))
    assert driver.state.since(updates(1, 0, 1)).tolist() == [driver.state.generation, 0]
    holds = ((updates(1, 1), np.array([10])), (updates(1, 0), np.array([0])))
    actions = driver.then(FunctionJoined(0, 30, "second", holds))
    assert drops(actions) == {(0, U, 1, 0): 0}
    assert driver.state.holdings()[0][0, U, 1].tolist() == [1]


def test_memory_of_the_index_does_not_grow_with_rounds():
    driver = Driver(Script({}))
    driver.apply(FunctionJoined(0, 100, "first"))
    for r in range(1, 40):
        driver.apply(ingested(updates(r, *range(5)), 1))
        driver.state.participations(0, 3)
        driver.apply(Deleted((KeySet.of_round(0, U, r - 2, range(5)),)))
        driver.check()
    state = driver.state
    assert state.rounds == {(0, U): [38, 39]}
    assert state._chains == {(0, 3): [38, 39]}
    assert (state.short, state.copied, state.waiting, state.ledger.owners()) == ({}, {}, [], [])


def test_asking_for_a_client_that_never_came_is_not_remembered():
    state = State()
    assert state.participations(0, 7) == []
    assert state._chains == {}
