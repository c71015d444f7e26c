"""Faults by chance over a running workload, in the short form; the long form is a command (CONTRIBUTING.md)."""

import json
from pathlib import Path

import pytest

from flstore.testing.faults.run import FOREIGN, OWN, main


def test_no_update_is_lost_no_answer_wrong_no_request_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "faults.json"
    status = main(["--faults", "24", "--requests", "60", "--seed", "3", "--output", str(output)])
    said = capsys.readouterr().out
    assert status == 0, said
    found = json.loads(output.read_text())
    assert found["lost"] == found["wrong"] == found["failed"] == []
    assert found["requests"] >= 60
    assert sum(found["faults"].values()) == 24
    assert set(found["faults"]) <= {*OWN, *FOREIGN}
    assert "0 updates lost, 0 wrong answers, 0 requests failed" in said
