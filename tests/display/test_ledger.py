"""The ledger of a scale, read from a checkout, shows its counts and its claims."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flstore.errors import InvalidParameterError
from flstore.reproduction import Ledger

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As much of one as is looked for, with a ledger of two claims at scale `small`."""
    (tmp_path / "Snakefile").touch()
    (tmp_path / "experiments" / "scales").mkdir(parents=True)
    results = tmp_path / "results" / "small"
    results.mkdir(parents=True)
    row = {"section": "5.2", "experiment": "fig07", "quantity": EVIL, "paper": "50.75", "unit": "%", "modelled": ""}
    rows = [
        {"id": "C01", **row, "measured": "71.3", "verdict": "exceeded", "reason": "larger"},
        {"id": "C02", **row, "measured": "", "verdict": "not run", "reason": "nothing ran"},
    ]
    pd.DataFrame(rows).to_csv(results / "ledger.csv", index=False)
    monkeypatch.chdir(results)
    return tmp_path


def test_a_ledger_is_counted_and_computed_on(checkout: Path) -> None:
    ledger = Ledger.read("small")
    assert ledger.page == checkout / "results" / "small" / "ledger.html"
    assert ledger.counts().to_dict() == {"exceeded": 1, "not run": 1}
    assert ledger.frame().loc["C01", "measured"] == "71.3"


def test_a_ledger_shows_itself(checkout: Path, read: Any) -> None:
    ledger = Ledger.read("small")
    page = read(ledger._repr_html_())
    assert "script" not in page.tags
    assert page.facts()["exceeded"] == "1"
    assert EVIL in page.words
    assert "nan" not in page.words
    text = repr(ledger)
    assert "exceeded" in text
    assert "C01" in text


def test_a_scale_that_was_not_reproduced_names_those_that_were(checkout: Path) -> None:
    with pytest.raises(InvalidParameterError, match="with a ledger: small; `flstore reproduce --scale large`"):
        Ledger.read("large")
