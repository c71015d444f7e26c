"""A model of equal blocks, of any size, and data for it: imported by the functions and by this process."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS = 12
EXAMPLES = 64
WIDTH = 7912
"""Of a block: twelve squares of so many float32 are 3 GB."""
QUICK = "FLSTORE_BENCHMARK_QUICK"
"""Set in the environment, which functions inherit, to try the harness with a small model."""


def width() -> int:
    """Inputs and outputs of a block."""
    return 256 if os.environ.get(QUICK) else WIDTH


def build() -> Any:
    """The model."""
    from torch import nn

    layers: list[Any] = []
    for _ in range(BLOCKS):
        layers += [nn.Linear(width(), width()), nn.Tanh()]
    return nn.Sequential(*layers)


def weights() -> dict[str, NDArray[Any]]:
    """Its state. All blocks have the same weights, so that only the encoded object has the full size here."""
    rng = np.random.default_rng(0)
    square = rng.standard_normal((width(), width()), np.float32) / np.float32(np.sqrt(width()))
    bias = np.zeros(width(), np.float32)
    return {f"{2 * i}.{name}": a for i in range(BLOCKS) for name, a in (("weight", square), ("bias", bias))}


def data() -> tuple[NDArray[Any], NDArray[Any]]:
    """Examples and labels."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((EXAMPLES, width()), np.float32), rng.integers(0, width(), EXAMPLES)
