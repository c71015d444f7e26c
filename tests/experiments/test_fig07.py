"""Both systems are asked for the same things, and what is recorded is what they did."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from experiments import fig07
from experiments.parameters import HERE
from flstore import FLStore
from flstore.baselines import ObjStoreAgg

CLIENTS, ROUNDS, REPETITIONS = 4, (1, 2), 2


@dataclass
class Answer:
    names: list[str]
    scores: dict[str, np.ndarray]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Answer(["a", "b"], {"x": np.array([1.0, np.nan])}), True),
        (Answer(["a", "b"], {"x": np.array([1.0 + 1e-9, np.nan])}), True),
        (Answer(["a", "b"], {"x": np.array([1.1, np.nan])}), False),
        (Answer(["a", "b"], {"x": np.array([1.0, 0.0])}), False),
        (Answer(["a", "b"], {"x": np.array([1.0])}), False),
        (Answer(["a", "b"], {"y": np.array([1.0, np.nan])}), False),
        (Answer(["a", "c"], {"x": np.array([1.0, np.nan])}), False),
        (Answer(["a"], {"x": np.array([1.0, np.nan])}), False),
        (None, False),
    ],
)
def test_answers_are_compared_to_the_last_number(other: Answer | None, same: bool):
    assert fig07.same_answer(Answer(["a", "b"], {"x": np.array([1.0, np.nan])}), other) is same


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    root = "memory://fig07"

    def tensors() -> dict[str, np.ndarray]:
        return {"w": rng.normal(size=(8, 4)).astype(np.float32)}

    with FLStore.local(functions=1, root=root) as store:
        store.ingest(0, {}, aggregate=tensors())
        for r in ROUNDS:
            updates = {f"c{i}": tensors() for i in range(CLIENTS)}
            metadata = {client: {"lr": 0.1, "loss": float(i)} for i, client in enumerate(updates)}
            store.ingest(r, updates, aggregate=tensors(), metadata=metadata)
        store.flush()
        with ObjStoreAgg(root) as baseline:
            return fig07.compare(store, baseline, REPETITIONS).assign(model="tiny")


def test_every_request_is_asked_of_both_and_answered_alike(data: pd.DataFrame):
    assert len(data) == 2 * len(ROUNDS) * REPETITIONS * 5
    assert data.groupby(["repetition", "round", "workload"])["system"].agg(list).map(set).map(len).eq(2).all()
    assert data["answers_equal"].all()
    assert (data["latency_s"] >= data["fetch_s"] + data["compute_s"]).all()


def test_the_baseline_has_no_cache_and_flstore_misses_where_a_pass_over_the_rounds_begins(data: pd.DataFrame):
    ours, theirs = (data[data["system"] == name].reset_index(drop=True) for name in ("FLStore", "ObjStore-Agg"))
    assert theirs[["hits", "late_hits"]].to_numpy().sum() == 0
    whole_round = ["clustering", "cosine_similarity", "malicious_filtering"]
    assert set(theirs[theirs["workload"].isin(whole_round)]["misses"]) == {CLIENTS + 1}
    assert list(ours["hits"] + ours["late_hits"] + ours["misses"]) == list(theirs["misses"])
    missed = ours[ours["workload"].isin(whole_round) & (ours["misses"] > 0)]
    assert list(zip(missed["repetition"], missed["round"], missed["workload"], strict=True)) == [
        (repetition, 1, "cosine_similarity") for repetition in (1, 2)
    ]


def test_the_figure_has_a_panel_a_model_and_says_measured(data: pd.DataFrame, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    drawn = fig07.figure(pd.concat([data, data.assign(model="other")]))
    assert [axes.get_title() for axes in drawn.axes] == ["tiny", "other"]
    assert {axes.get_yscale() for axes in drawn.axes} == {"log"}
    assert "measured" in drawn.get_suptitle()


def test_the_table_gives_the_reduction_of_the_mean():
    rows = [("FLStore", 1.0), ("FLStore", 3.0), ("ObjStore-Agg", 4.0), ("ObjStore-Agg", 12.0)]
    data = pd.DataFrame([{"model": "m", "workload": "w", "system": s, "latency_s": x} for s, x in rows])
    (row,) = fig07.table(data).to_dict("records")
    assert row == {
        "FLStore median ms": 2000.0,
        "ObjStore-Agg median ms": 8000.0,
        "reduction of the mean, %": 75.0,
    }
