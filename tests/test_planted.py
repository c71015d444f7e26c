"""Faulty clients in a real Flower app: what is planted is what was said, and the benchmark finds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import faulty, planted
from benchmarks.__main__ import main


@pytest.fixture(scope="module")
def training() -> planted.Run:
    return planted.Run(seed=3, clients=5, alpha=100.0, warm_up=1)


@pytest.fixture(scope="module")
def honest(training: planted.Run) -> dict[str, Any]:
    return training.round("none", 2)


def deltas(training: planted.Run, updates: dict[str, Any], client: str = "02") -> np.ndarray:
    pairs = [(updates[client][name], before) for name, before in training.arrays.items()]
    return np.concatenate([(after - before).ravel() for after, before in pairs])


@pytest.mark.parametrize("fault", planted.FAULTS)
def test_only_the_named_client_is_faulty_and_as_said(training: planted.Run, honest: dict[str, Any], fault: str) -> None:
    updates = training.round(fault, 2)
    assert sorted(updates) == ["00", "01", "02", "03", "04"]
    for client in set(updates) - {"02"}:
        for name, array in honest[client].items():
            np.testing.assert_array_equal(updates[client][name], array)
    before, after = deltas(training, honest), deltas(training, updates)
    if fault in ("none", "sign-flipped", "scaled"):
        factor = {"none": 1, "sign-flipped": -1, "scaled": planted.SCALE}[fault]
        np.testing.assert_allclose(after, factor * before, atol=1e-6)
    elif fault == "noisy":
        assert np.linalg.norm(after - before) == pytest.approx(planted.NOISE * np.linalg.norm(before), rel=1e-3)
    else:
        assert before @ after < 0.9 * np.linalg.norm(before) * np.linalg.norm(after)


def test_filtering_and_debugging_find_a_scaled_client(training: planted.Run) -> None:
    job = faulty.SampleJob("faulty")
    job.add(faulty.WARM_UP, {}, aggregate=training.arrays)
    job.add(faulty.WARM_UP + 1, training.round("scaled", 4))
    for workload, params in faulty.FINDERS.values():
        assert "04" in faulty._guilty(faulty.make(workload, **params), job)


@pytest.mark.slow
def test_a_quick_run_has_a_row_for_each_split_fault_and_finder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faulty", "--quick"]) == 0
    table = capsys.readouterr().out
    rows = [line for line in table.splitlines() if line.startswith("faulty ")]
    assert len(rows) == len(faulty.SPLITS) * len(faulty.FINDERS) * len(planted.FAULTS)
    assert "faulty even, scaled: filtering " in table
