"""A small network that learns the digits in a few rounds, and the images that nobody trains on."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def build() -> Any:
    """The network: 3 x 32 x 32 in, ten classes out, 19,742 parameters. Torch's own random state draws its weights."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 28),
        nn.ReLU(),
        nn.Linear(28, 10),
    )


def held_out() -> tuple[NDArray[Any], NDArray[Any]]:
    """The 360 held-out images and their digits."""
    from flstore.federated.data import digits

    data = digits(1)
    return data.test_images, data.test_labels
