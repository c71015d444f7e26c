"""How good the outputs of a model are, and what must be said before that can be asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import FLStoreError, InvalidParameterError
from flstore.workloads._data import check_data
from flstore.workloads._imports import check_path, function_at
from flstore.workloads._params import check_choice

METRICS = ("accuracy", "loss")
PRECISIONS = (None, "float32", "bfloat16")
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


def check_precision(workload: str, precision: Any) -> None:
    """Raise InvalidParameterError unless models can be evaluated in this precision."""
    check_choice(workload, "precision", precision, PRECISIONS)


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


def judge(what: str, outputs: NDArray[Any], y: NDArray[Any] | None, metric: str) -> float:
    """How good outputs are, higher is better.

    Parameters
    ----------
    what : str
        What gave them, for messages.
    outputs, y : ndarray, shape (n, ...)
        What a model gave, and what is true.
    metric : str
        "accuracy"; "loss", the mean cross entropy with its sign turned; or the import path of a function.

    Raises
    ------
    InvalidParameterError
        The metric is unknown, or cannot judge these outputs by these labels.
    """
    check_metric(what, metric)
    if metric in METRICS:
        y = labels(what, outputs, y, metric)
        return accuracy(outputs, y) if metric == "accuracy" else -cross_entropy(outputs, y)
    function = function_at(what, "metric", metric)
    try:
        return float(function(outputs, y))
    except FLStoreError:
        raise
    except Exception as error:
        raise InvalidParameterError(
            f"{metric}() raised {type(error).__name__} for outputs of shape {list(outputs.shape)}: {error}"
        ) from error


def labels(what: str, outputs: NDArray[Any], y: NDArray[Any] | None, metric: str = "accuracy") -> NDArray[np.int64]:
    """Labels as class numbers; raises InvalidParameterError unless outputs and labels are of classes."""
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        why = f"outputs of shape {list(outputs.shape)}, not one number for each of at least two classes"
    elif y is None or y.ndim != 1 or y.dtype.kind not in "iub":
        why = "no labels" if y is None else f"labels of shape {list(y.shape)} and dtype {y.dtype}"
    elif y.min() < 0 or y.max() >= outputs.shape[1]:
        why = f"labels from {y.min()} to {y.max()} for {outputs.shape[1]} classes"
    else:
        return y.astype(np.int64)
    raise InvalidParameterError(
        f"{what} has {why}: metric={metric!r} needs integer labels of classes; metric='package.module:function' can be "
        f"any function of (outputs, y)"
    )
