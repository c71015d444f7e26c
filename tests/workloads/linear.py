"""A linear network whose answers NumPy gives as well, for references that share nothing with ours."""

from __future__ import annotations

from typing import Any

import numpy as np

TASK = {"model": "flstore.testing.sample_task:model", "data": "tests.workloads.linear:data"}
CLASSES = 4


def data() -> tuple[np.ndarray, np.ndarray]:
    """Labels that one set of weights tells right, so that some updates are better than others."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(60, 8)).astype("f4")
    return x, (x.astype("f8") @ truth()).argmax(1)


def truth() -> np.ndarray:
    return np.random.default_rng(12).normal(size=(8, CLASSES))


def tensors(weight: np.ndarray, bias: np.ndarray | None = None) -> dict[str, Any]:
    bias = np.zeros(CLASSES) if bias is None else bias
    return {"dense.weight": weight.astype("f4"), "dense.bias": bias.astype("f4"), "steps": np.array(3)}


def update(seed: int, noise: float) -> dict[str, Any]:
    """The better, the less noise."""
    rng = np.random.default_rng([13, seed])
    return tensors(truth() + noise * rng.normal(size=(8, CLASSES)), noise * rng.normal(size=CLASSES))


def vector(arrays: dict[str, Any]) -> np.ndarray:
    return np.concatenate([arrays["dense.weight"].ravel(), arrays["dense.bias"]]).astype("f8")


def outputs(arrays: dict[str, Any]) -> np.ndarray:
    return data()[0].astype("f8") @ arrays["dense.weight"].astype("f8") + arrays["dense.bias"].astype("f8")


def accuracy(arrays: dict[str, Any]) -> float:
    return float(np.mean([row.argmax() == label for row, label in zip(outputs(arrays), data()[1], strict=True)]))


def mean(models: list[dict[str, Any]], weights: list[float] | None = None) -> dict[str, Any]:
    weights = [1 / len(models)] * len(models) if weights is None else weights
    found = {n: sum(w * m[n].astype("f8") for w, m in zip(weights, models, strict=True)) for n in models[0]}
    return {**found, "steps": np.array(3)}
