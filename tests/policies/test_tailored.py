"""All four classes side by side, and LRU."""

from __future__ import annotations

from flstore.types import FunctionJoined, FunctionLost
from tests.policies.held import Engine, M, U, lineage


def test_tailored_asks_the_class_of_the_request_alone():
    engine = Engine("tailored")
    for round in (1, 2, 3):
        engine.ingest(U, round, 0, 1, 2)
        engine.ingest(M, round, 0)
    engine.ask_round(3, 0, workload="inference")
    assert engine.held(U) == {3: [0]}
    engine.ask(lineage(1, 1), workload="lineage")
    assert engine.held(U) == {1: [1], 2: [1], 3: [0]}
    engine.ask_round(1, 0, workload="hyperparameters")
    assert engine.held(U) == {1: [1], 2: [1], 3: [0]}
    engine.ask_round(3, 0)
    assert engine.held(U) == {1: [1], 2: [1], 3: [0, 1, 2]}
    assert engine.rounds(M) == [1, 2, 3]


def test_no_class_evicts_what_another_needs():
    engine = Engine("tailored", last=1)
    for round in (1, 2, 3, 4):
        engine.ingest(U, round, 0, 1)
    engine.ask(lineage(0, 1), workload="lineage")
    engine.ask_round(1, 0, 1)
    engine.ask_round(4, 0, 1)  # P2 lets go of rounds 1 to 3; P3 still follows client 0 there
    assert engine.held(U) == {1: [0], 2: [0], 4: [0, 1]}


def test_tailored_survives_the_loss_of_its_function():
    engine = Engine("tailored")
    engine.ingest(U, 1, 0, 1)
    engine.ingest(M, 1, 0, 1)
    engine.ask_round(1, 0)
    engine.apply(FunctionLost(0, "x"))
    assert (engine.held(U), engine.held(M)) == ({}, {})
    engine.apply(FunctionJoined(0, 10**9, "y"))
    assert (engine.held(U), engine.held(M)) == ({1: [0, 1]}, {1: [0, 1]})


def test_lru_counts_bytes_and_passes_over_what_never_fits():
    engine = Engine("lru", capacity=10)
    for round, size in ((1, 4), (2, 5), (3, 11), (4, 2)):
        engine.ingest(U, round, 0, size=size)
    for round in (1, 2, 3):
        engine.ask_round(round, 0)
    assert engine.rounds(U) == [1, 2]  # round 3 is larger than the function and evicts nothing
    engine.ask_round(1, 0)
    engine.ask_round(4, 0)
    assert engine.rounds(U) == [1, 4]


def test_lru_that_is_filled_on_ingest_keeps_what_came_last():
    engine = Engine("lru", capacity=3, fill="write-allocate")
    engine.ingest(U, 1, 0, 1)
    engine.ingest(M, 1, 0)
    engine.ask_round(1, 0)
    engine.ingest(U, 2, 7)
    assert (engine.held(U), engine.held(M)) == ({1: [0], 2: [7]}, {1: [0]})


def test_lru_counts_what_grew_with_its_new_size():
    engine = Engine("lru", capacity=10, fill="write-allocate")
    engine.ingest(M, 1, 0, size=4)
    engine.ingest(M, 2, 0, size=4)
    engine.ingest(M, 2, 0, size=8)
    assert engine.rounds(M) == [2]
    engine.ingest(M, 3, 0, size=2)
    assert engine.rounds(M) == [2, 3]
    assert engine.state.functions[0].used_bytes == 10
