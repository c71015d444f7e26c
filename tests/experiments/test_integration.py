"""What changes in a program is counted, and whether its outcome does."""

from __future__ import annotations

import pandas as pd
import pytest

from experiments import integration
from experiments.claims import Verdict, read_claims
from experiments.rules import find

CLAIMS = {claim.id: claim for claim in read_claims()}


def outcome(**changed: object) -> pd.DataFrame:
    """What the experiment leaves, with these changes to the second framework."""
    same = {"same_model": True, "answered": True, "updates": 10}
    rows = [
        {"framework": "Flower", "lines_changed": 1, "imports_changed": 1, **same},
        {"framework": "NVIDIA FLARE", "lines_changed": 2, "imports_changed": 1, **same, **changed},
        {"framework": integration.NAMES[integration.LOOP], "lines_changed": 3, "imports_changed": 0, **same},
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (outcome(), Verdict.REPRODUCED),
        (outcome(lines_changed=3), Verdict.DIFFERS),
        (outcome(same_model=False), Verdict.DIFFERS),
        (outcome(answered=False), Verdict.DIFFERS),
        (outcome().drop(1), Verdict.NOT_RUN),
    ],
)
@pytest.mark.parametrize("claim", ["C58", "N3"])
def test_a_line_in_two_frameworks(claim: str, data: pd.DataFrame, expected: Verdict):
    found = find(CLAIMS[claim], {"integration": data})
    assert found.verdict is expected
    assert found.measured.startswith("Flower: one import; ")


def test_the_quickstart_and_a_loop_train_the_same_and_are_kept():
    data = integration.measure(["flower", "own_loop"], 1, 3).set_index("framework")
    assert data["lines_changed"].tolist() == [1, 3]
    assert data["imports_changed"].tolist() == [1, 0]
    assert data["updates"].tolist() == [3, 3]
    assert data["same_model"].all()
    assert data["answered"].all()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_of_nvflare_trains_the_same_and_is_kept():
    pytest.importorskip("nvflare")
    (row,) = integration.measure(["nvflare"], 2, 2).itertuples()
    assert (row.lines_changed, row.imports_changed, row.updates) == (2, 1, 4)
    assert row.same_model
    assert row.answered
