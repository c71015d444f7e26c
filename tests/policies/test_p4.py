"""P4: the metadata of the last rounds."""

from __future__ import annotations

import numpy as np

from flstore.types import FunctionJoined, KeySet
from tests.policies.held import Engine, M, U


def test_p4_keeps_the_metadata_of_the_last_rounds_unasked():
    engine = Engine("p4", rounds=2)
    for round in (1, 4, 9):
        engine.ingest(M, round, 0, 1)
        engine.ingest(U, round, 0, 1)
    assert engine.held(M) == {4: [0, 1], 9: [0, 1]}
    assert engine.held(U) == {}


def test_p4_goes_by_the_number_of_a_round_and_not_by_its_arrival():
    engine = Engine("p4", rounds=2)
    for round in (8, 9, 3):
        engine.ingest(M, round, 0)
    assert engine.rounds(M) == [8, 9]


def test_p4_takes_in_clients_that_come_late_and_keeps_jobs_apart():
    engine = Engine("p4", rounds=1)
    engine.ingest(M, 1, 0)
    engine.ingest(M, 1, 3, job=4)
    engine.ingest(M, 1, 1)
    assert (engine.held(M), engine.held(M, job=4)) == ({1: [0, 1]}, {1: [3]})
    engine.ingest(M, 2, 0)
    assert (engine.held(M), engine.held(M, job=4)) == ({2: [0]}, {1: [3]})


def test_p4_finds_the_rounds_of_a_root_that_was_opened_again():
    engine = Engine("p4", rounds=2)
    for round in (1, 2, 3):
        engine.state.register(KeySet.of_round(0, M, round, [0]), np.array([1]))
    engine.apply(FunctionJoined(1, 100, "y"))
    assert engine.rounds(M) == [2, 3]
