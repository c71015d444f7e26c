"""A network that is not ours, for tests: layers in a module of its own, batch normalisation, a function in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

SHAPE = (2, 6, 6)
CLASSES = 4


class Tiny(nn.Module):
    """A convolution, batch normalisation and two dense layers: 2 x 6 x 6 in, four classes out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.hidden = nn.Linear(5 * 16, 24)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(torch.tanh(self.hidden(x.flatten(1))))


def build() -> nn.Module:
    return Tiny()


def not_a_model() -> str:
    return "a word"


def data() -> tuple[NDArray[Any], NDArray[Any]]:
    """48 examples of four classes, each a pattern of its own under noise."""
    random = np.random.default_rng(5)
    labels = np.arange(48) % CLASSES
    patterns = random.normal(size=(CLASSES, *SHAPE))
    return (patterns[labels] + 0.3 * random.normal(size=(48, *SHAPE))).astype(np.float32), labels


def state(seed: int = 0) -> dict[str, NDArray[Any]]:
    """Fresh weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: t.detach().numpy().copy() for name, t in Tiny().state_dict().items()}


def trained(steps: int, start: dict[str, NDArray[Any]] | None = None, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Weights after some steps of gradient descent on two thirds of the data; which ones depends on the seed."""
    model = Tiny()
    model.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in (start or state()).items()})
    x, y = (torch.from_numpy(part) for part in data())
    random, optimizer = np.random.default_rng(seed), torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        rows = torch.from_numpy(random.choice(len(y), 32, replace=False))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return {name: t.detach().numpy().copy() for name, t in model.state_dict().items()}
