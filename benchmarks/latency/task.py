"""The four models and the held-out digits, as import paths."""

from __future__ import annotations

from typing import Any

from benchmarks.digits_net import held_out
from flstore.federated.models import MODELS, build
from flstore.task import Task

__all__ = ["held_out", "task"]


def task(model: str) -> Task:
    """How weights of `model` are judged: on 360 digits that nobody trains on."""
    return Task(model=f"{__name__}:{model}", data=f"{__name__}:held_out")


def __getattr__(name: str) -> Any:
    """``task:resnet18`` and so on: factories without arguments."""
    if name not in MODELS:
        raise AttributeError(name)
    return lambda: build(name)
