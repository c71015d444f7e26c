"""The table of settings, and the loop that follows them."""

from __future__ import annotations

import json
import math
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch

from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.federated import MODELS, SETTINGS, Settings, client_app
from flstore.federated.settings import settings_for
from flstore.federated.training import batches, score, train


def test_every_model_has_settings():
    assert set(SETTINGS) == set(MODELS)


def test_what_is_said_apart_wins():
    own = Settings(rounds=3, lr=0.5, epochs=7)
    assert settings_for("resnet18") is not SETTINGS["swin_v2_t"]
    assert settings_for("resnet18") == SETTINGS["resnet18"]
    assert settings_for("resnet18", own, rounds=4) == Settings(rounds=4, lr=0.5, epochs=7)
    assert settings_for("resnet18", lr=0.25).lr == 0.25
    assert settings_for("a network of my own", own) == own
    with pytest.raises(UnknownNameError, match="no model named 'resnet'"):
        settings_for("resnet")


@pytest.mark.parametrize(
    "bad",
    [
        {"rounds": 0},
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": math.nan},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"clip_norm": 0.0},
        {"clip_norm": math.nan},
    ],
)
def test_out_of_range(bad: dict[str, Any]):
    with pytest.raises(InvalidParameterError, match=f"{next(iter(bad))}="):
        Settings(**bad)


def test_unknown_optimizer():
    with pytest.raises(UnknownNameError, match="Did you mean 'adamw'"):
        Settings(optimizer="adam")


def test_what_clients_are_told_fits_a_json_file():
    for settings in SETTINGS.values():
        json.dumps(settings.config(), allow_nan=False)
    assert SETTINGS["swin_v2_t"].config()["clip-norm"] == 1.0


def test_every_epoch_is_all_images_in_even_batches():
    config = Settings(batch_size=16, epochs=3).config()
    chosen = batches(37, config, np.random.default_rng(0))
    assert [len(b) for b in chosen] == [19, 18] * 3
    assert sorted(np.concatenate(chosen[:2])) == list(range(37))
    assert not np.array_equal(chosen[0], chosen[2])
    assert len(batches(37, {**config, "max-batches": 4}, np.random.default_rng(0))) == 4


def one_step(**settings: Any) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Weights of a linear network after one batch, what plain SGD with rate 1 would have added, and the metrics."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    images = np.random.default_rng(0).normal(size=(6, 3, 2, 2)).astype(np.float32)
    labels = np.arange(6) % 3
    before = network[1].weight.detach().numpy().copy()
    loss = torch.nn.functional.cross_entropy(network(torch.from_numpy(images)), torch.from_numpy(labels))
    loss.backward()
    gradient = network[1].weight.grad.numpy().copy()
    accuracy, expected = score(network, images, labels)
    config = Settings(epochs=1, **settings).config()
    metrics = train(network, images, labels, config, np.random.default_rng(1))
    assert metrics["train_loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["train_accuracy"] == pytest.approx(accuracy)
    return network[1].weight.detach().numpy() - before, -gradient, metrics


def test_sgd_follows_the_gradient_and_a_clipped_one_is_short():
    change, along, metrics = one_step(lr=0.5)
    np.testing.assert_allclose(change, 0.5 * along, atol=1e-6)
    assert metrics["batches"] == 1
    clipped, _, _ = one_step(lr=0.5, clip_norm=1e-3)
    assert np.linalg.norm(clipped) < 0.5e-3
    np.testing.assert_allclose(clipped / np.linalg.norm(clipped), along / np.linalg.norm(along), atol=1e-3)


def test_adamw_steps_by_the_rate_whatever_the_gradient():
    change, along, _ = one_step(lr=0.01, optimizer="adamw")
    np.testing.assert_allclose(change, 0.01 * np.sign(along), rtol=1e-2)


def test_nothing_to_train_on_is_nan():
    network = torch.nn.Linear(2, 2)
    nothing = train(
        network, np.zeros((0, 2), np.float32), np.zeros(0, np.int64), {"epochs": 0}, np.random.default_rng()
    )
    assert math.isnan(nothing["train_loss"])
    assert nothing["batches"] == 0


def test_a_client_app_travels_to_another_process():
    """Ray and Flower's own runners send it, or what makes it, pickled by value."""
    assert cloudpickle.loads(cloudpickle.dumps(client_app({"1": "noise"}))) is not None
