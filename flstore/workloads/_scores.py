"""How good the outputs of a model are, and what must be said before that can be asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError
from flstore.workloads._data import check_data
from flstore.workloads._imports import check_path

METRICS = ("accuracy", "loss")
HOW_TO_SET_A_TASK = (
    "give them with the request, or once for all requests: store.task(model='package:factory', data='package:loader')"
)


def check_metric(workload: str, metric: Any) -> None:
    """Raise InvalidParameterError unless `metric` is a known name or looks like an import path."""
    if metric in METRICS:
        return
    if not isinstance(metric, str) or ":" not in metric:
        raise InvalidParameterError(
            f"{workload}: metric={metric!r} is unknown; choose 'accuracy', 'loss' or the import path of a function, "
            f"'package.module:function', that takes (outputs, y) and returns a number, higher is better"
        )
    check_path(workload, "metric", metric)


def check_task(workload: str, model: Any, data: Any, metric: Any = "accuracy") -> None:
    """Raise InvalidParameterError unless these say how weights become a model that can be judged."""
    absent = [name for name, value in (("model", model), ("data", data)) if value is None]
    if absent:
        raise InvalidParameterError(f"{workload} needs {', '.join(map(repr, absent))}; {HOW_TO_SET_A_TASK}")
    check_path(workload, "model", model)
    check_data(workload, data)
    check_metric(workload, metric)


def accuracy(outputs: NDArray[Any], y: NDArray[np.int64]) -> float:
    """Share of examples whose largest output is that of their class; an output that is not finite is a mistake."""
    return float(correct(outputs, y).mean())


def correct(outputs: NDArray[Any], y: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which examples are told right, shape (n,)."""
    right: NDArray[np.bool_] = (outputs.argmax(axis=1) == y) & np.isfinite(outputs).all(axis=1)
    return right


def cross_entropy(outputs: NDArray[Any], y: NDArray[np.int64]) -> float:
    """Mean cross entropy of the softmax of outputs, in float64."""
    wide = outputs.astype(np.float64)
    with np.errstate(invalid="ignore"):
        shifted = wide - wide.max(axis=1, keepdims=True)
        return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(y)), y]).mean())
