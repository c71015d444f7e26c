"""What each class wants after objects were deleted: never those, and what takes their place."""

from __future__ import annotations

import pytest

from flstore import policies
from flstore.policies import LRU, P1, P2, P3, P4
from flstore.types import Deleted, KeySet
from tests.policies.held import A, Engine, M, U, lineage


def test_p1_falls_back_on_the_newest_aggregate_that_is_left():
    engine = Engine("p1")
    for round in (1, 2, 3):
        engine.ingest(A, round)
    engine.apply(Deleted((KeySet.of_client(0, A, -1, [3, 2]),)))
    assert engine.rounds(A) == [1]
    engine.apply(Deleted((KeySet.of_client(0, A, -1, [1]),)))
    assert engine.rounds(A) == []
    engine.ingest(A, 2)
    assert engine.rounds(A) == [2]


def test_p1_gives_the_places_of_deleted_updates_to_others():
    policy = P1(last=2)
    engine = Engine(policy)
    engine.ingest(U, 1, 0, 1, 2)
    for client in (0, 1):
        engine.ask_round(1, client, workload="inference")
    engine.apply(Deleted((KeySet.of_round(0, U, 1, [1]),)))
    engine.ask_round(1, 2, workload="inference")
    assert engine.held(U) == {1: [0, 2]}
    assert len(policy._recent) == 2


def test_p2_goes_on_where_it_was_and_lets_go_of_the_aggregates_of_deleted_rounds():
    policy = P2()
    engine = Engine(policy)
    for round in (1, 2, 3):
        engine.ingest(A, round - 1)
        engine.ingest(U, round, 0, 1)
    engine.ask(KeySet.of_round(0, U, 1, [0, 1]), KeySet.of_client(0, A, -1, [0]))
    assert (engine.rounds(U), engine.rounds(A)) == ([1, 2, 3], [0, 1, 2])
    engine.apply(Deleted((KeySet.of_round(0, U, 1, [0, 1]),)))
    assert (engine.rounds(U), engine.rounds(A)) == ([2, 3], [1, 2])
    engine.ingest(U, 4, 0)
    assert engine.rounds(U) == [2, 3, 4]
    engine.apply(Deleted((KeySet.of_client(0, U, 0, [2, 3, 4]),)))
    assert engine.held(U) == {2: [1], 3: [1]}
    engine.apply(Deleted((KeySet.of_client(0, U, 1, [2, 3]),)))
    assert (engine.rounds(U), policy._cursors) == ([], {})


def test_p2_wants_the_round_that_became_the_latest():
    engine = Engine("p2", window=1)
    for round in (1, 2, 3, 4, 5):
        engine.ingest(U, round, 0)
    engine.ask_round(1, 0)
    assert engine.rounds(U) == [1, 2, 5]
    engine.apply(Deleted((KeySet.of_round(0, U, 5, [0]),)))
    assert engine.rounds(U) == [1, 2, 4]


def test_p3_goes_on_to_the_participation_after_a_deleted_one():
    engine = Engine("p3")
    for round in (1, 2, 3):
        engine.ingest(U, round, 0)
    engine.ask(lineage(0, 1), workload="lineage")
    engine.apply(Deleted((KeySet.of_round(0, U, 2, [0]),)))
    assert engine.rounds(U) == [1, 3]


def test_p3_awaits_the_next_participation_although_its_own_round_is_gone():
    policy = P3(cursors=2)
    engine = Engine(policy)
    engine.ingest(U, 1, 0)
    engine.ask(lineage(0, 1), workload="lineage")
    engine.apply(Deleted((KeySet.of_round(0, U, 1, [0]),)))
    assert engine.rounds(U) == []
    engine.ingest(U, 4, 0)
    assert engine.rounds(U) == [4]
    engine.ingest(U, 1, 0)  # another object of that name
    assert engine.rounds(U) == [1, 4]
    assert not policy._adrift
    for client in (7, 8):
        engine.ingest(U, 9, client)
        engine.ask(lineage(client, 9), workload="lineage")
    assert len(policy._at) == len(policy._wanted) == 2


def test_p4_fills_its_window_with_older_rounds():
    policy = P4(rounds=2)
    engine = Engine(policy)
    for round in (1, 2, 3):
        engine.ingest(M, round, 0)
    engine.apply(Deleted((KeySet.of_round(0, M, 3, [0]),)))
    assert engine.rounds(M) == [1, 2]
    engine.apply(Deleted((KeySet.of_client(0, M, 0, [1, 2]),)))
    assert (engine.rounds(M), policy._kept) == ([], {})


def test_lru_counts_the_room_of_what_was_deleted_as_free():
    policy = LRU()
    engine = Engine(policy, capacity=2)
    engine.ingest(U, 1, 0, 1, 2)
    for client in (0, 1):
        engine.ask_round(1, client)
    engine.apply(Deleted((KeySet.of_round(0, U, 1, [1]),)))
    engine.ask_round(1, 2)
    assert engine.held(U) == {1: [0, 2]}
    assert (policy._bytes, len(policy._sizes)) == (2, 2)


@pytest.mark.parametrize("name", [name for name in policies.names() if not policies.get(name).needs_future])
def test_nothing_is_left_when_everything_is_deleted(name: str):
    engine = Engine(name)
    for round in (1, 2, 3):
        for kind in (U, M):
            engine.ingest(kind, round, 0, 1)
        engine.ingest(A, round)
    engine.ask(KeySet.of_round(0, U, 2, [0, 1]), KeySet.of_client(0, A, -1, [1]))
    engine.ask(lineage(0, 1, 2), workload="lineage")
    engine.ask_round(1, 0, workload="inference")
    parts = [KeySet.of_round(0, kind, round, [0, 1]) for kind in (U, M) for round in (1, 2, 3)]
    engine.apply(Deleted((*parts, KeySet.of_client(0, A, -1, [1, 2, 3]))))
    state = engine.state
    assert (state.tables, state.rounds, state.waiting, state._chains) == ({}, {}, [], {})
    assert state.ledger.owners() == []
    assert state.functions[0].used_bytes == 0
