"""Footprints of the 23 models: from real state dicts, and without their memory."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from experiments import appd
from experiments.parameters import HERE
from flstore.errors import InvalidParameterError
from flstore.federated import zoo
from flstore.federated.models import build, state_arrays, torch_module

LIGHT = ("FEMNIST CNN", "CelebA CNN", "Shakespeare LSTM", "Reddit LSTM", "ResNet-18", "SqueezeNet 1.1", "MobileNetV3-S")


def builder(name: str) -> Callable[[], Any]:
    (model,) = [model for model in zoo.MODELS if model.name == name]
    return model.build


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those alone that are made in a moment."""
    monkeypatch.setattr(zoo, "MODELS", tuple(model for model in zoo.MODELS if model.name in LIGHT))


def test_there_are_23_with_the_four_of_the_paper():
    assert len({model.name for model in zoo.MODELS}) == len(zoo.MODELS) == 23
    ours = {model.name for model in zoo.MODELS if model.source == "the paper's evaluation"}
    assert ours == {"EfficientNetV2-S", "ResNet-18", "MobileNetV3-S", "SwinV2-T"}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("ResNet-18", 11_689_512), ("SqueezeNet 1.1", 1_235_496), ("Shakespeare LSTM", 819_920), ("CelebA CNN", 31_202)],
)
def test_published_numbers_of_parameters(name: str, parameters: int):
    assert zoo.measure(builder(name))[1] == parameters


def test_a_size_is_that_of_the_state_which_clients_send():
    sent = state_arrays(build("resnet18", num_classes=1000))
    tensors, _, size = zoo.measure(builder("ResNet-18"))
    assert (tensors, size) == (len(sent), sum(array.nbytes for array in sent.values()))


def test_tied_tensors_count_once():
    nn = torch_module().nn

    def tied() -> Any:
        module = nn.ModuleDict({"embedding": nn.Embedding(10, 4), "out": nn.Linear(4, 10, bias=False)})
        module["out"].weight = module["embedding"].weight
        return module

    assert zoo.measure(tied) == (1, 40, 160)


def test_what_fits_a_function(light: None):
    table = zoo.footprints(10**9, per_round=9, window=3).set_index("model")
    assert set(table.index) == set(LIGHT)
    assert table["bytes"].is_monotonic_increasing
    resnet = table.loc["ResNet-18"]  # 46.8 MB: 16 in 750 MB of cache, and a round is ten of them
    assert (resnet["updates_fit"], resnet["rounds_fit"], resnet["window_functions"]) == (16, 1, 2)
    assert (
        zoo.footprints(10**7, 1, 1).set_index("model").loc["ResNet-18", ["updates_fit", "window_functions"]].eq(0).all()
    )
    with pytest.raises(InvalidParameterError, match="per_round=0"):
        zoo.footprints(per_round=0)


def test_the_figure_shows_every_model_and_both_means(light: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    data = appd.measure(10, 10, 10)
    (axes,) = appd.figure(data).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == data["model"].tolist()
    assert {f"{fit:,}" for fit in data["updates_fit"]} <= {text.get_text() for text in axes.texts}
    at = {line.get_label(): line.get_xdata()[0] for line in axes.lines if len(line.get_xdata())}
    assert at["paper's mean, 161 MB"] == 161
    mean = data["bytes"].mean() / 1e6
    assert at[f"our mean, {mean:.0f} MB"] == pytest.approx(mean)
    assert appd.table(data).loc["mean", "size_mb"] == pytest.approx(round(mean, 1))
    assert isinstance(data, pd.DataFrame)
