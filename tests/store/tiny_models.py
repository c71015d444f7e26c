"""Models and data that the functions import."""

from __future__ import annotations

from typing import Any

import numpy as np

WIDTH, BLOCKS, CLASSES = 160, 6, 10


def sequential() -> Any:
    """Equal blocks, 0.6 MB together, with layers without weights between them."""
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(BLOCKS):
        layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, CLASSES))


def staged() -> Any:
    """A model that is no Sequential, but says in which stages it runs."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(BLOCKS)])
            self.head = nn.Linear(WIDTH, CLASSES)

        def stages(self) -> list[nn.Module]:
            return [*(nn.Sequential(block, nn.ReLU()) for block in self.body), self.head]

        def forward(self, x: Any) -> Any:
            for stage in self.stages():
                x = stage(x)
            return x

    return Net()


def opaque() -> Any:
    """A model of which nobody knows in which order its layers run."""
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = sequential()

        def forward(self, x: Any) -> Any:
            return self.inner(x)

    return Net()


def vector() -> Any:
    """A model with the tensors of ``make_round``."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(2000))
            self.register_buffer("seen", torch.tensor(0))

        def forward(self, x: Any) -> Any:
            return (x * self.w).reshape(len(x), CLASSES, -1).sum(-1)

    return Net()


def vectors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(20, 2000)).astype("f4"), rng.integers(0, CLASSES, size=20)


def digits() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(50, WIDTH)).astype("f4"), rng.integers(0, CLASSES, size=50)


def unlabelled() -> tuple[np.ndarray, None]:
    return digits()[0], None


def broken() -> Any:
    raise ValueError("no such file")


def mobilenet() -> Any:
    """The network of the Flower app in the tests."""
    from flstore.federated.models import build

    return build("mobilenet_v3_small")


def images() -> tuple[Any, Any]:
    """Four images and their labels."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 3, 32, 32)).astype("f4"), np.arange(4) % 10
