"""What a stored model answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.codec import ClientUpdate
from flstore.errors import InvalidParameterError, UpdateNotFoundError
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads._imports import call_path, check_path
from flstore.workloads._params import check_integer
from flstore.workloads._stages import Stages, run
from flstore.workloads.base import Catalogue, Inputs, Scope, Staged, require_round


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """Outputs of a model for each example, and how good they are.

    Attributes
    ----------
    predictions : ndarray of int64, shape (n,)
        The class with the largest output; empty for a model whose outputs are no vectors of at least two numbers.
    outputs : ndarray, shape (n, ...)
        What the last layer gave.
    loss : float
        Mean cross entropy against integer labels, mean squared error against others; NaN without labels.
    accuracy : float
        Share of examples whose prediction is the label; NaN without integer labels.
    """

    predictions: NDArray[np.int64]
    outputs: NDArray[Any]
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Inference(Staged):
    """Run a stored model on data (class P1): the aggregate of a round, or what one client sent in it.

    A model that fits no single function is held in parts; each function then runs its own layers. That needs an
    ``nn.Sequential``, or a model with a method ``stages()`` that gives its layers in order.

    Parameters
    ----------
    model : str
        Import path, "package.module:factory", of a function that returns a ``torch.nn.Module``. Its ``state_dict`` has
        the names of the stored tensors.
    data : str
        Import path of a function that returns (x, y): arrays of n examples and n labels, or None for y.
    batch_size : int
        Examples that go through the model at once.

    Notes
    -----
    Both are imported by the cache functions, which must have them on their Python path.

    Examples
    --------
    ``store.request("inference", round=7, model="mytask.net:build", data="mytask.data:test").value.accuracy``
    """

    name: ClassVar[str] = "inference"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P1
    result_type: ClassVar[type] = InferenceResult

    model: str
    data: str
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_path(self.name, "model", self.model)
        check_path(self.name, "data", self.data)
        check_integer(self.name, "batch_size", self.batch_size, 1)

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        """One model."""
        r = require_round(self.name, scope)
        if scope.client is None:
            if not catalogue.has_aggregate(r):
                raise UpdateNotFoundError(f"{self.name}: there is no aggregate of round {r}; client= names an update")
            return [Key(scope.job, Kind.AGGREGATE, r)]
        if scope.client not in catalogue.clients(r):
            rounds = ", ".join(map(str, catalogue.rounds_of(scope.client)[-20:]))
            raise UpdateNotFoundError(
                f"{self.name}: client {scope.client!r} sent nothing in round {r}; it took part in: {rounds}"
            )
        return [Key(scope.job, Kind.UPDATE, r, scope.client)]

    def compute(self, inputs: Inputs) -> InferenceResult:
        """The whole model at once."""
        return self.finish(run(Stages(self.name, self.model).whole(_tensors(inputs)), self._batches()))

    def stage(self, inputs: Inputs, part: int, of: int, values: Sequence[Any] | None) -> list[Any]:
        """Some layers of the model; the data goes into the first."""
        layers = Stages(self.name, self.model).of_part(_tensors(inputs), part)
        return run(layers, self._batches() if values is None else list(values))

    def finish(self, values: Sequence[Any]) -> InferenceResult:
        """Predictions from the outputs of the last layer, and how they compare with the labels."""
        outputs = np.concatenate(list(values))
        _, y = self._data()
        classes = outputs.ndim == 2 and outputs.shape[1] > 1
        predictions = outputs.argmax(axis=1).astype(np.int64) if classes else np.empty(0, np.int64)
        loss = accuracy = float("nan")
        if y is not None and y.dtype.kind in "iub" and classes:
            loss = _cross_entropy(outputs.astype(np.float64), y.astype(np.int64))
            accuracy = float((predictions == y).mean())
        elif y is not None:
            loss = float(((outputs.reshape(y.shape).astype(np.float64) - y) ** 2).mean())
        return InferenceResult(predictions, outputs, loss, accuracy)

    def _data(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        found = call_path(self.name, "data", self.data)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise InvalidParameterError(f"{self.name}: {self.data}() must return (x, y), not a {type(found).__name__}")
        x, y = np.asarray(found[0]), None if found[1] is None else np.asarray(found[1])
        if not len(x) or (y is not None and len(x) != len(y)):
            labels = "no labels" if y is None else f"{len(y)} labels"
            raise InvalidParameterError(f"{self.name}: {self.data}() returned {len(x)} examples and {labels}")
        return x, y

    def _batches(self) -> list[NDArray[Any]]:
        x, _ = self._data()
        return [x[at : at + self.batch_size] for at in range(0, len(x), self.batch_size)]


def _tensors(inputs: Inputs) -> ClientUpdate:
    (model,) = inputs.data.values()
    found: ClientUpdate = model
    return found


def _cross_entropy(outputs: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1))
    return float((log_sums - shifted[np.arange(len(y)), y]).mean())
