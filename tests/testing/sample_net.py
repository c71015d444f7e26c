"""A network with the tensors of the sample job, and data for it."""

from __future__ import annotations

from typing import Any

import numpy as np


def build() -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = torch.nn.ParameterDict({"weight": torch.zeros(8, 4), "bias": torch.zeros(4)})
            self.register_buffer("steps", torch.tensor(0))

        def forward(self, x: Any) -> Any:
            return x @ self.dense["weight"] + self.dense["bias"]

    return Net()


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(9, 8)).astype("f4"), rng.integers(0, 4, 9)
