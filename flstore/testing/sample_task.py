"""A network with the tensors of the sample job, and data for it: what examples and tests evaluate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def model() -> Any:
    """A linear classifier of four classes, with a counter."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = torch.nn.ParameterDict({"weight": torch.zeros(8, 4), "bias": torch.zeros(4)})
            self.register_buffer("steps", torch.tensor(0))

        def forward(self, x: Any) -> Any:
            return x @ self.dense["weight"] + self.dense["bias"]

    return Net()


def data() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Forty random vectors, and a label for each."""
    rng = np.random.default_rng(1)
    return rng.normal(size=(40, 8)).astype(np.float32), rng.integers(0, 4, 40)
