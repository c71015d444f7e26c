"""The learning curves: one row a model and round, and a table and figure that show them."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from experiments.learning import REACHED, figure, measure, table
from experiments.parameters import HERE
from flstore.federated import SETTINGS

COMMITTED = HERE.parent / "results" / "curves" / "data.csv"


def test_a_row_for_every_round_and_the_settings_it_ran_with():
    data = measure(["mobilenet_v3_small"], 1, 20, 2, 1, 0)
    assert data["round"].tolist() == [0, 1]
    assert data["model"].unique().tolist() == ["mobilenet_v3_small"]
    assert data["accuracy"].between(0, 1).all()
    assert np.isfinite(data["train_loss"].iloc[1])
    assert (data["rounds"] == 1).all()
    assert (data["lr"] == 0.1).all()
    assert (data["cpu_s"] > 0).all()


@pytest.fixture
def curves() -> pd.DataFrame:
    rows = [("a", r, min(0.9, 0.3 * r)) for r in range(5)] + [("b", r, 0.1) for r in range(3)]
    data = pd.DataFrame(rows, columns=["model", "round", "accuracy"])
    return data.assign(seconds=2.0, cpu_s=7.5, optimizer="sgd", lr=0.1, epochs=2, batch_size=16)


def test_the_table_says_when_eighty_percent_were_passed(curves: pd.DataFrame):
    rows = table(curves)
    assert rows["first round above 0.8"].tolist()[0] == 3
    assert np.isnan(rows["first round above 0.8"].tolist()[1])
    assert rows["wall time, s"].tolist() == [10.0, 6.0]
    assert rows["last accuracy"].tolist() == [0.9, 0.1]


def test_the_figure_has_a_line_for_each_model_and_one_at_eighty_percent(
    curves: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(HERE))
    drawn = figure(curves)
    (axes,) = drawn.axes
    lines = {tuple(line.get_ydata()) for line in axes.get_lines() if len(line.get_xdata())}
    assert (0.8, 0.8) in lines
    assert tuple(curves.loc[curves["model"] == "a", "accuracy"]) in lines
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_the_committed_curves_are_of_the_settings_of_today_and_all_pass_eighty_percent():
    data = pd.read_csv(COMMITTED)  # made as the README.md beside it says
    assert set(data["model"]) == set(SETTINGS)
    for model, curve in data.groupby("model"):
        for name, value in asdict(SETTINGS[model]).items():
            assert set(curve[name]) == {value}, f"{model} was trained with another {name}: make its curve again"
        assert curve["round"].tolist() == list(range(SETTINGS[model].rounds + 1))
        assert curve["accuracy"].iloc[-1] > REACHED
