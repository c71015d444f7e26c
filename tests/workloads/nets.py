"""Networks that are not ours, as a cache function imports them, and data for them."""

from __future__ import annotations

from typing import Any

import numpy as np

CLASSES, EXAMPLES = 4, 24


def images(size: int = 8, examples: int = EXAMPLES) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.normal(size=(examples, 3, size, size)).astype("f4"), rng.integers(0, CLASSES, examples)


def many_images() -> tuple[np.ndarray, np.ndarray]:
    """Enough to be shared out."""
    return images(examples=80)


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


def odd() -> Any:
    """What shortcuts must leave alone, and what only looks like something they may take."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = nn.BatchNorm2d(3)  # nothing is before it
            self.first = nn.Conv2d(3, 8, 3, padding=1)
            self.norm = nn.BatchNorm2d(8)
            self.twice = nn.Conv2d(8, 8, 1)  # somebody else sees what the normalisation gets
            self.seen = nn.BatchNorm2d(8, affine=False)
            self.shared = nn.Conv2d(8, 8, 3, padding=1, bias=False)  # called twice
            self.both = nn.BatchNorm2d(8)
            self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
            self.batch = nn.BatchNorm2d(8, track_running_stats=False)
            self.down, self.down_norm = nn.Conv2d(8, 16, 3, stride=4), nn.BatchNorm2d(16)
            self.tied, self.other = nn.Linear(16, 16), nn.Linear(16, 16)
            self.other.weight = self.tied.weight
            self.read = nn.Linear(16, 16)  # called, and its weight is read as well
            self.head = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Dropout(0.5), nn.Linear(16, CLASSES))

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.norm(self.first(self.before(x))))
            y = self.twice(x)
            x = self.seen(y) + y
            x = self.both(self.shared(torch.sigmoid(self.shared(x))))
            x = self.batch(self.grouped(x))
            x = nn.functional.silu(self.down_norm(self.down(x))).mean((2, 3))
            x = self.other(self.tied(x).tanh()) + self.read(x) * self.read.weight.mean()
            return self.head(x)

    return Net()


def fusible() -> Any:
    """The same but for its oddities: most of it is taken into the layers before."""
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.SiLU(inplace=True)),
        *(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8, affine=False), nn.Hardswish()),
        *(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(4)),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, CLASSES)),
    )


def crowd() -> Any:
    """Judges an example by those beside it."""
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8, track_running_stats=False), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32, CLASSES)),
    )


def hooked() -> Any:
    """Its first layer is looked at, and what was seen is part of what it gives."""
    from torch import nn

    net = convolutions()
    seen: dict[str, Any] = {}
    net[0].register_forward_hook(lambda layer, given, result: seen.update(first=result))
    net.register_forward_hook(lambda layer, given, result: result + seen["first"].mean((1, 2, 3))[:, None])
    assert isinstance(net, nn.Module)
    return net


def normed() -> Any:
    """Weights that are computed anew before each pass, from others that are stored."""
    import warnings

    import torch

    net = convolutions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has a successor
        torch.nn.utils.weight_norm(net[7])
    return net


def half_right(outputs: np.ndarray, y: np.ndarray) -> float:
    """A metric of somebody's own."""
    return float((outputs.argsort(axis=1)[:, -2:] == y[:, None]).any(axis=1).mean())


def broken_metric(outputs: np.ndarray, y: np.ndarray) -> float:
    raise ZeroDivisionError("no examples")


def converted() -> Any:
    """A network that does something of its own when weights are loaded."""
    from torch import nn

    class Converted(nn.LayerNorm):
        def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
            super()._load_from_state_dict({**state, f"{prefix}weight": 3 * state[f"{prefix}weight"]}, prefix, *rest)

    return nn.Sequential(nn.Flatten(1), Converted(192), nn.Linear(192, CLASSES))


def extra() -> Any:
    """A network with a number that is extra state: it is there only when somebody sets it."""
    import torch
    from torch import nn

    class Factor(nn.Module):
        factor = 1.0

        def get_extra_state(self) -> Any:
            return torch.tensor(self.factor)

        def set_extra_state(self, state: Any) -> None:
            self.factor = float(state)

        def forward(self, x: Any) -> Any:
            return x * (1 + self.factor)

    return nn.Sequential(nn.Flatten(1), nn.LayerNorm(192), nn.Linear(192, CLASSES), Factor())
