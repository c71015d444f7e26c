"""The built-in networks and the held-out digits, as the import paths that ``store.task`` takes.

>>> from flstore.task import Task
>>> Task(model="flstore.federated.tasks:resnet18", data="flstore.federated.tasks:held_out").metric
'accuracy'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flstore.federated.data import digits
from flstore.federated.models import build

if TYPE_CHECKING:
    from torch.nn import Module


def efficientnet_v2_s() -> Module:
    """EfficientNetV2-S with ten classes."""
    return build("efficientnet_v2_s")


def resnet18() -> Module:
    """ResNet18 with ten classes."""
    return build("resnet18")


def mobilenet_v3_small() -> Module:
    """MobileNetV3-S with ten classes."""
    return build("mobilenet_v3_small")


def swin_v2_t() -> Module:
    """SwinV2-T with ten classes."""
    return build("swin_v2_t")


def held_out() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The 360 digits that no client trains on, and what they are."""
    data = digits(1)
    return data.test_images, data.test_labels
