"""The networks of the paper's evaluation as import paths without arguments, for a task: ``factories:resnet18``."""

from __future__ import annotations

from functools import partial
from typing import Any

from flstore.federated.models import MODELS, build


def __getattr__(name: str) -> Any:
    """A function that builds the network of this name."""
    if name not in MODELS:
        raise AttributeError(f"{__name__} has no network {name!r}; known: {', '.join(MODELS)}")
    return partial(build, name)
