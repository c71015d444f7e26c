"""How the comparison of systems is counted: weights, means, reductions, floors. No timing is asserted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from benchmarks.latency import account, floors, show
from benchmarks.latency.parameters import PATH, Parameters
from benchmarks.latency.trace import _Answers, passes
from benchmarks.rows import Row
from flstore.federated.models import MODELS
from flstore.workloads import make

PARAMETERS = replace(Parameters.read(), resamples=200)


def row(latency_s: float, misses: int = 0, **other: Any) -> dict[str, Any]:
    return {"latency_s": latency_s, "misses": misses, "late_hits": 0, "equal": True, **other}


def test_the_parameters_name_what_exists() -> None:
    assert PATH.exists()
    assert list(PARAMETERS.rounds) == list(MODELS)
    assert len(PARAMETERS.rounds) * len(PARAMETERS.workloads) == 40
    for name, params in [*PARAMETERS.workloads.items(), *PARAMETERS.beside.items()]:
        task = {"model": "a:b", "data": "a:b"} if name in [*PARAMETERS.evaluations, "debugging"] else {}
        make(name, **{**task, **params})
    assert set(PARAMETERS.evaluations) <= set(PARAMETERS.workloads)
    for model, rounds in PARAMETERS.rounds.items():
        assert rounds * PARAMETERS.asks_about(model) >= 30


def test_every_system_is_asked_the_same_in_the_exact_column() -> None:
    exact, derived, rough = passes(PARAMETERS, "swin_v2_t")
    assert exact.systems == [*PARAMETERS.systems, *PARAMETERS.fairness]
    assert {name: exact.asks[name] for name in PARAMETERS.systems} == dict.fromkeys(PARAMETERS.systems, 10)
    assert (derived.systems, derived.derive, exact.derive) == (["FLStore"], True, False)
    assert [label for label, _, _ in rough.requests] == PARAMETERS.evaluations


def test_a_system_with_a_history_is_asked_until_a_long_request_missed_nothing() -> None:
    answers = _Answers(asks=5, history=True)
    answers.note(row(9.0, misses=10), 1.0)
    assert not answers.done
    answers.note(row(4.0), 1.0)
    assert answers.done
    found = answers.weighted(5)
    assert [(r["latency_s"], r["weight"]) for r in found] == [(9.0, 1.0), (4.0, 4.0)]


def test_a_system_without_a_history_is_asked_once_when_that_takes_long() -> None:
    answers = _Answers(asks=5, history=False)
    answers.note(row(4.0, misses=10), 1.0)
    assert answers.done
    assert [r["weight"] for r in answers.weighted(5)] == [5.0]


def test_short_requests_are_all_sent() -> None:
    answers = _Answers(asks=3, history=True)
    for latency_s in (0.3, 0.1, 0.2):
        assert not answers.done
        answers.note(row(latency_s), 1.0)
    assert answers.done
    assert [r["weight"] for r in answers.weighted(3)] == [1.0, 1.0, 1.0]


def requests() -> pd.DataFrame:
    rows = []
    for workload, ours, theirs in (("clustering", (2.0, 1.0), 10.0), ("inference", (4.0, 4.0), 8.0)):
        fixed = {"column": "exact", "model": "resnet18", "workload": workload}
        rows.append(row(ours[0], misses=1, **fixed, system="FLStore", weight=1.0))
        rows.append(row(ours[1], **fixed, system="FLStore", weight=4.0))
        rows.append(row(theirs, misses=1, **fixed, system="Cache-Agg", weight=5.0))
        rows.append(row(theirs / 2, **fixed | {"column": "derived"}, system="FLStore", weight=5.0))
    found = pd.DataFrame(rows)
    return found.assign(round=1, ahead_s=np.where(found["column"] == "derived", 12.0, 2.0))


def test_latency_is_the_mean_over_the_whole_trace() -> None:
    cells = account.cells(requests(), PARAMETERS)
    ours = cells.loc[("exact", "resnet18", "clustering", "FLStore")]
    assert ours["mean_s"] == pytest.approx((2 + 4 * 1) / 5)
    assert (ours["median_s"], ours["q3_s"], ours["asked"], ours["stands_for"]) == (1.0, 1.0, 2, 5.0)
    assert 1.0 <= ours["low_s"] <= ours["mean_s"] <= ours["high_s"] <= 2.0


def test_reductions_are_of_the_means() -> None:
    found = account.reductions(requests(), PARAMETERS)["Cache-Agg"]
    assert found["resnet18", "clustering"] == pytest.approx(1 - 1.2 / 10)
    assert found["resnet18", "inference"] == pytest.approx(0.5)
    cached = account.reductions(requests(), PARAMETERS, cached=True)["Cache-Agg"]
    assert cached["resnet18", "clustering"] == pytest.approx(0.9)
    derived = account.reductions(requests(), PARAMETERS, "derived")["Cache-Agg"]
    assert derived["resnet18", "clustering"] == pytest.approx(1 - (5 + 1) / 10)  # ten seconds more for ten requests
    low, high = account.interval(requests(), PARAMETERS, "Cache-Agg")
    assert low <= found.mean() <= high


def test_products_with_padding_are_counted() -> None:
    # On one pixel a 3x3 kernel has one tap inside and eight on padding.
    assert floors._with_padding(nn.Conv2d(4, 6, 3, padding=1), (1, 4, 1, 1)) == 2 * 8 * 4 * 6
    assert floors._with_padding(nn.Conv2d(4, 6, 3), (1, 4, 5, 5)) == 0
    layer, (height, width) = nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2), dilation=2, groups=2), (6, 7)
    inside = np.zeros((height + 2, width + 4), bool)
    inside[1:-1, 2:-2] = True
    corners = [(top, left) for top in range(0, height + 2 - 4, 2) for left in range(0, width + 4 - 8, 2)]
    brute = sum(not inside[top + 2 * r, left + 2 * c] for top, left in corners for r in range(3) for c in range(5))
    assert floors._with_padding(layer, (1, 4, height, width)) == 2 * brute * 2 * 8


def test_the_table_has_a_line_a_cell_and_a_column_a_system() -> None:
    notes = {("FLStore", "exact"): "mean 1 ms; floor 4 ms", ("FLStore", "derived"): "", ("Cache-Agg", "exact"): "x"}
    rows = [Row(show.name_of("resnet18", "clustering", *who), 12.0, "ms", note=note) for who, note in notes.items()]
    lines = show.table([*rows, Row("reduction", 50.0, "%")]).splitlines()
    assert all(name in lines[1] + lines[2] for name in ("FLStore", "FLStore derived", "Cache-Agg", "FLStore / floor"))
    assert lines[-1].split()[:5] == ["resnet18", "clustering", "12", "12", "12"]
    assert lines[-1].split()[-1] == "3"
