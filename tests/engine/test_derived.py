"""What shall be derived is decided once one function holds all of it, and again when it went."""

from __future__ import annotations

from collections.abc import Iterable

from flstore.types import Action, Derive, FunctionJoined, FunctionLost, Prepare, Unwant, Want
from tests.engine.driver import Driver, Script, deleted, ingested, keys_of, requested, updates

ROUND = updates(1, 0, 1)
ASKED = [Want("o", ROUND), Derive("clustering", ROUND), Derive("cosine_similarity", ROUND)]


def prepared(actions: Iterable[Action]) -> list[tuple[int, str, int]]:
    """Function, workload and number of objects of what is to be derived."""
    return [(a.function, a.what, len(keys_of(a.keys))) for a in actions if isinstance(a, Prepare)]


def driver_with(*capacities: int, script: dict[int, list[Want | Unwant | Derive]] | None = None) -> Driver:
    driver = Driver(Script({1: ASKED, **(script or {})}))
    for number, capacity in enumerate(capacities):
        driver.apply(FunctionJoined(number, capacity, "first"))
    driver.apply(ingested(ROUND, 10))
    return driver


def test_where_all_of_it_is_once_for_each_workload() -> None:
    driver = driver_with(50)
    assert prepared(driver.apply(requested(1))) == [(0, "clustering", 2), (0, "cosine_similarity", 2)]
    assert prepared(driver.apply(requested(2))) == []
    driver.check()


def test_not_while_it_is_on_two_functions() -> None:
    driver = driver_with(10, 10)
    assert prepared(driver.apply(requested(1))) == []
    assert prepared(driver.apply(FunctionJoined(2, 50, "first"))) == []
    actions = driver.apply(FunctionLost(0)) + driver.apply(FunctionLost(1))
    assert prepared(actions) == [(2, "clustering", 2), (2, "cosine_similarity", 2)]


def test_again_when_its_function_is_lost() -> None:
    driver = driver_with(50, 50)
    ((first, *_), _) = prepared(driver.apply(requested(1)))
    again = prepared(driver.apply(FunctionLost(first)))
    assert again == [(1 - first, "clustering", 2), (1 - first, "cosine_similarity", 2)]


def test_of_a_late_client_too() -> None:
    late = updates(1, 2)
    driver = driver_with(50, script={2: [Want("o", late), Derive("clustering", late)]})
    driver.apply(requested(1))
    driver.apply(ingested(late, 10))
    assert prepared(driver.apply(requested(2))) == [(0, "clustering", 3), (0, "cosine_similarity", 3)]


def test_not_of_what_nobody_wants_any_more() -> None:
    driver = driver_with(50, 50, script={2: [Unwant("o")], 3: [Want("o", ROUND)]})
    driver.apply(requested(1))
    driver.apply(requested(2))
    assert prepared(driver.apply(FunctionLost(0))) == []
    assert prepared(driver.apply(requested(3))) == []


def test_nothing_is_remembered_of_a_round_that_was_deleted() -> None:
    driver = driver_with(50)
    driver.apply(requested(1))
    driver.apply(deleted(ROUND))
    assert (driver.state.derived, driver.state.underived) == ({}, {})
