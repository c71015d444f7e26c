"""Networks that are not ours, as a cache function imports them, and data for them."""

from __future__ import annotations

from typing import Any

import numpy as np

CLASSES, EXAMPLES = 4, 24


def images(size: int = 8, examples: int = EXAMPLES) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.normal(size=(examples, 3, size, size)).astype("f4"), rng.integers(0, CLASSES, examples)


def wide_images() -> tuple[np.ndarray, np.ndarray]:
    x, y = images()
    return x.astype("f8"), y


def unlabelled() -> tuple[np.ndarray, None]:
    return images()[0], None


def empty() -> tuple[np.ndarray, np.ndarray]:
    return np.empty((0, 3, 8, 8), "f4"), np.empty(0, "i8")


def wrong_labels() -> tuple[np.ndarray, np.ndarray]:
    return images()[0], np.full(EXAMPLES, 9)


def amounts() -> tuple[np.ndarray, np.ndarray]:
    return images()[0], np.random.default_rng(6).normal(size=(EXAMPLES, CLASSES))


def no_pair() -> list[int]:
    return [1, 2, 3]


def tokens() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    return rng.integers(0, 11, (EXAMPLES, 5)), rng.integers(0, CLASSES, EXAMPLES)


def convolutions() -> Any:
    """Ends on one pixel, with most kinds of convolutions on the way."""
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()),
        *(nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16)),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(24, 24, 5, padding=2, groups=24), nn.Conv2d(24, 24, 3, padding=1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, CLASSES)),
    )


def brief() -> Any:
    import torch

    return convolutions().to(torch.bfloat16)


def viewed() -> Any:
    """Takes a view that only contiguous images have, as many a LeNet does."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)
            self.head = torch.nn.Linear(6 * 64, CLASSES)

        def forward(self, x: Any) -> Any:
            return self.head(torch.relu(self.conv(x)).view(-1, 6 * 64))

    return Net()


def embedding() -> Any:
    from torch import nn

    return nn.Sequential(nn.Embedding(11, 6), nn.Flatten(), nn.Linear(30, CLASSES))


def pair() -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = convolutions()

        def forward(self, x: Any) -> Any:
            return self.inner(x), None

    return Net()


def not_a_net() -> str:
    return "a net"


def resnet18() -> Any:
    from flstore.federated.models import build

    return build("resnet18")


def half_right(outputs: np.ndarray, y: np.ndarray) -> float:
    """A metric of somebody's own."""
    return float((outputs.argsort(axis=1)[:, -2:] == y[:, None]).any(axis=1).mean())


def broken_metric(outputs: np.ndarray, y: np.ndarray) -> float:
    raise ZeroDivisionError("no examples")
