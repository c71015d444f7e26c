"""P1: the newest aggregate, and the last updates that were asked for."""

from __future__ import annotations

import numpy as np

from flstore.types import NO_CLIENT, FunctionJoined, KeySet
from tests.policies.held import A, Engine, U


def test_p1_keeps_the_newest_aggregate_from_the_start():
    engine = Engine("p1")
    for round in (0, 1, 2):
        engine.ingest(A, round)
        assert engine.rounds(A) == [round]
    engine.ingest(A, 1, job=5)
    assert (engine.rounds(A), engine.rounds(A, job=5)) == ([2], [1])


def test_p1_takes_no_older_aggregate_for_the_newest():
    engine = Engine("p1")
    engine.ingest(A, 7)
    engine.ingest(A, 3)
    assert engine.rounds(A) == [7]


def test_p1_finds_the_newest_aggregate_of_a_root_that_was_opened_again():
    engine = Engine("p1")
    engine.state.register(KeySet.of_round(0, A, 4, [NO_CLIENT]), np.array([1]))
    engine.apply(FunctionJoined(1, 100, "y"))
    assert engine.rounds(A) == [4]


def test_p1_keeps_the_last_updates_that_were_asked_for():
    engine = Engine("p1", last=2)
    engine.ingest(U, 1, 0, 1, 2, 3)
    for client in (0, 1, 0, 2):
        engine.ask_round(1, client, workload="inference")
    assert engine.held(U) == {1: [0, 2]}
    engine.ingest(U, 2, 0, 1, 2, 3)
    assert engine.held(U) == {1: [0, 2]}


def test_p1_keeps_the_end_of_a_request_for_more_than_it_remembers():
    engine = Engine("p1", last=2)
    engine.ingest(U, 1, 0, 1, 2, 3)
    engine.ask_round(1, 3, 0, 2, 1, workload="inference")
    assert engine.held(U) == {1: [1, 2]}


def test_p1_can_be_told_to_remember_nothing():
    engine = Engine("p1", last=0)
    engine.ingest(U, 1, 0)
    engine.ingest(A, 1)
    engine.ask_round(1, 0, workload="inference")
    assert (engine.held(U), engine.rounds(A)) == ({}, [1])


def test_p1_does_not_let_the_newest_aggregate_go_with_the_requests():
    engine = Engine("p1", last=1)
    engine.ingest(A, 1)
    engine.ingest(U, 1, 0)
    engine.ask(KeySet.of_client(0, A, NO_CLIENT, [1]), workload="inference")
    engine.ask_round(1, 0, workload="inference")
    assert (engine.held(U), engine.rounds(A)) == ({1: [0]}, [1])
