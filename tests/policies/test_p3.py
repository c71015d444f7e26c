"""P3: a client's update and the one of its next participation."""

from __future__ import annotations

from tests.policies.held import Engine, U, lineage


def test_p3_keeps_the_round_that_was_asked_for_and_the_next_participation():
    engine = Engine("p3")
    for round, clients in ((1, (0, 1)), (2, (1,)), (5, (0, 1)), (6, (0,))):
        engine.ingest(U, round, *clients)
    engine.ask(lineage(0, 1), workload="lineage")
    assert engine.held(U) == {1: [0], 5: [0]}
    engine.ask(lineage(0, 5), workload="lineage")
    assert engine.held(U) == {5: [0], 6: [0]}


def test_p3_waits_for_a_participation_that_has_not_come():
    engine = Engine("p3")
    engine.ingest(U, 1, 0, 1)
    engine.ask(lineage(0, 1), workload="lineage")
    engine.ingest(U, 2, 1)
    assert engine.held(U) == {1: [0]}
    engine.ingest(U, 9, 0, 1)
    assert engine.held(U) == {1: [0], 9: [0]}
    engine.ingest(U, 4, 0)  # comes late, and is nearer
    assert engine.held(U) == {1: [0], 4: [0]}


def test_p3_follows_the_newest_round_of_a_request_for_several():
    engine = Engine("p3")
    for round in (1, 2, 3, 4):
        engine.ingest(U, round, 0)
    engine.ask(lineage(0, 1, 2), workload="lineage")
    assert engine.rounds(U) == [2, 3]


def test_p3_follows_each_client_and_each_job_for_itself():
    engine = Engine("p3")
    for job in (0, 1):
        for round in (1, 2, 3):
            engine.ingest(U, round, 0, 1, job=job)
    engine.ask(lineage(0, 1), workload="lineage")
    engine.ask(lineage(1, 2), workload="lineage")
    engine.ask(lineage(0, 3, job=1), workload="lineage")
    assert engine.held(U) == {1: [0], 2: [0, 1], 3: [1]}
    assert engine.held(U, job=1) == {3: [0]}


def test_p3_forgets_the_client_that_was_asked_for_longest_ago():
    engine = Engine("p3", cursors=2)
    for round in (1, 2):
        engine.ingest(U, round, 0, 1, 2)
    for client in (0, 1, 0, 2):
        engine.ask(lineage(client, 1), workload="lineage")
    assert engine.held(U) == {1: [0, 2], 2: [0, 2]}
    engine.ingest(U, 3, 0, 1, 2)
    assert engine.held(U) == {1: [0, 2], 2: [0, 2]}


def test_p3_stays_within_its_cursors_when_one_request_names_more_clients():
    engine = Engine("p3", cursors=2)
    engine.ingest(U, 1, 0, 1, 2, 3)
    engine.ask_round(1, 0, 1, 2, 3, workload="lineage")
    assert engine.held(U) == {1: [2, 3]}
