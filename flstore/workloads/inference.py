"""What a stored model answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.codec import ClientUpdate
from flstore.display.table import Tabular
from flstore.errors import UpdateNotFoundError
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads._data import load
from flstore.workloads._evaluate import evaluator, outputs_name
from flstore.workloads._outputs import outputs
from flstore.workloads._params import check_integer
from flstore.workloads._plot import start
from flstore.workloads._scores import check_precision, check_task, correct, cross_entropy, judge, labels
from flstore.workloads._stages import Stages, run
from flstore.workloads.base import Catalogue, Inputs, Piecewise, Scope, Staged, require_round

BATCH_IN_PARTS = 64
LARGE_BYTES = 1 << 30
"""Beyond, a model runs on the memory that holds it, layer by layer in its own dtypes; below, on a copy that is kept."""


@dataclass(frozen=True, eq=False, repr=False)
class InferenceResult(Tabular):
    """Outputs of a model for each example, how good they are, and for which classes.

    Attributes
    ----------
    predictions : ndarray of int64, shape (n,)
        The class with the largest output; empty for a model whose outputs are no vectors of at least two numbers, or
        are integers: tokens that it has generated, say.
    outputs : ndarray, shape (n, ...)
        What the last layer gave.
    loss : float
        Mean cross entropy against integer labels, mean squared error against others; NaN without labels.
    accuracy : float
        Share of examples whose prediction is the label (an output that is not finite is a mistake); NaN without integer
        labels.
    class_accuracy : ndarray of float64, shape (classes,)
        The same of the examples of each class; NaN for a class without examples. Empty without integer labels.
    class_examples : ndarray of int64, shape (classes,)
        Examples of each class.
    worst_class : int
        The class with the lowest accuracy (the first of them); -1 without integer labels.
    spread : float
        Accuracy of the best class minus that of the worst: 0 is a model that is fair to classes. NaN likewise.
    score : float
        The metric, higher is better; NaN without labels.
    metric : str
        What `score` is.
    """

    predictions: NDArray[np.int64]
    outputs: NDArray[Any]
    loss: float
    accuracy: float
    class_accuracy: NDArray[np.float64]
    class_examples: NDArray[np.int64]
    worst_class: int
    spread: float
    score: float
    metric: str

    def frame(self) -> Any:
        """One row a class: its examples and its accuracy; one row an example where there are no labels."""
        import pandas as pd

        if not len(self.class_examples):
            flat = self.outputs.reshape(len(self.outputs), -1)
            columns = {"prediction": self.predictions} if len(self.predictions) else {"output": flat[:, 0]}
            return pd.DataFrame(columns, index=pd.RangeIndex(len(flat), name="example"))
        columns = {"examples": self.class_examples, "accuracy": self.class_accuracy}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self.class_examples), name="class"))

    def plot(self, ax: Any = None) -> Any:
        """Accuracy of each class as bars, with the mean as a line; returns the axes."""
        seaborn, ax = start(ax, "InferenceResult.plot", (6.0, 3.5))
        table = self.frame().reset_index()
        seaborn.barplot(table, x=table.columns[0], y=table.columns[-1], color="tab:blue", ax=ax)
        ax.axhline(self.accuracy, color="tab:orange", label="all examples")
        ax.legend()
        return ax


@dataclass(frozen=True)
class Inference(Staged, Piecewise):
    """Run a stored model on data (class P1): the aggregate of a round, or what one client sent in it.

    Says for which classes it is good, too: a model can be accurate on average and useless for a class that few clients
    have (Mohri et al. judge a model by its worst group, Li et al. by the spread over groups).

    A model that fits no single function is held in parts; each function then runs its own layers. That needs an
    ``nn.Sequential``, or a model with a method ``stages()`` that gives its layers in order.

    Parameters
    ----------
    model : str
        Import path, "package.module:factory", of a function that returns a ``torch.nn.Module``. Its ``state_dict`` has
        the names of the stored tensors. Default: that of ``store.task``.
    data : str
        Import path of a function that returns (x, y), arrays of n examples and n labels, or None for y; or the path
        or URL of an .npz or .safetensors file with these arrays. Default: that of ``store.task``.
    batch_size : int, optional
        Examples that go through the model at once; default: as many as memory allows, and 64 through a model in parts.
    metric : str, optional
        "accuracy" (default), "loss", or the import path of a function that takes (outputs, y).
    precision : {"float32", "bfloat16"}, optional
        As in ``store.task``; not for a model in parts.

    Notes
    -----
    All are imported by the cache functions, which must have them on their Python path.

    References
    ----------
    Khan et al.: FLStore: Efficient Federated Learning Storage for Non-training Workloads. MLSys 2025, Table 1 (P1).
    Mohri, Sivek, Suresh: Agnostic Federated Learning. ICML 2019. Li, Sanjabi, Beirami, Smith: Fair Resource Allocation
    in Federated Learning. ICLR 2020.

    Examples
    --------
    ``store.request("inference", round=7, model="mytask.net:build", data="mytask.data:test").value.accuracy``

    >>> from flstore.testing.sample_job import sample_job
    >>> ask = Inference("flstore.testing.sample_task:model", "flstore.testing.sample_task:data")
    >>> result = sample_job().ask(ask, round=3)
    >>> result.outputs.shape, result.class_examples.tolist()
    ((40, 4), [14, 12, 6, 8])
    """

    name: ClassVar[str] = "inference"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P1
    result_type: ClassVar[type] = InferenceResult

    model: str
    data: str
    batch_size: int | None = None
    metric: str | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        check_task(self.name, self.model, self.data, self.metric or "accuracy")
        check_precision(self.name, self.precision)
        if self.batch_size is not None:
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
        tensors = _tensors(inputs)
        if tensors.size_bytes > LARGE_BYTES:
            return self.finish(run(Stages(self.name, self.model).whole(tensors), self._batches()))
        at = evaluator(self.name, self.model, self.data, self.precision)
        if self.batch_size is not None:
            return self._judged(at.outputs(tensors, self.batch_size), at.y)
        return self._judged(outputs(at, inputs, list(inputs.data))[0], at.y)

    @property
    def piece(self) -> str:
        return outputs_name(self.model, self.data, self.precision) if self.batch_size is None else ""

    def ahead(self, inputs: Inputs) -> Iterator[None]:
        if _tensors(inputs).size_bytes <= LARGE_BYTES:
            outputs(evaluator(self.name, self.model, self.data, self.precision), inputs, list(inputs.data))
        yield

    def stage(self, inputs: Inputs, part: int, of: int, values: Sequence[Any] | None) -> list[Any]:
        """Some layers of the model; the data goes into the first."""
        layers = Stages(self.name, self.model).of_part(_tensors(inputs), part)
        return run(layers, self._batches() if values is None else list(values))

    def finish(self, values: Sequence[Any]) -> InferenceResult:
        """Predictions from the outputs of the last layer, and how they compare with the labels."""
        return self._judged(np.concatenate(list(values)), load(self.name, self.data)[1])

    def _judged(self, outputs: NDArray[Any], y: NDArray[Any] | None) -> InferenceResult:
        what = f"{self.name}: the model {self.model}() with the data {self.data}"
        classes = outputs.ndim == 2 and outputs.shape[1] > 1 and outputs.dtype.kind not in "iu"
        predictions = outputs.argmax(axis=1).astype(np.int64) if classes else np.empty(0, np.int64)
        loss = accuracy = spread = score = float("nan")
        shares, counts, worst = np.empty(0), np.empty(0, np.int64), -1
        metric = self.metric or "accuracy"
        if y is not None and y.dtype.kind in "iub" and classes:
            truth = labels(what, outputs, y)
            loss, right = cross_entropy(outputs, truth), correct(outputs, truth)
            accuracy = float(right.mean())
            counts = np.bincount(truth, minlength=outputs.shape[1])
            with np.errstate(invalid="ignore"):
                shares = np.bincount(truth, weights=right, minlength=outputs.shape[1]) / counts
            worst, spread = int(np.nanargmin(shares)), float(np.nanmax(shares) - np.nanmin(shares))
        elif y is not None:
            loss = float(((outputs.reshape(y.shape).astype(np.float64) - y) ** 2).mean())
        if y is not None and (self.metric is not None or worst >= 0):
            score = judge(what, outputs, y, metric)
        return InferenceResult(
            predictions, outputs, loss, accuracy, shares, counts, worst, spread, score, metric,
        )  # fmt: skip

    def _batches(self) -> list[NDArray[Any]]:
        x, _ = load(self.name, self.data)
        step = self.batch_size or BATCH_IN_PARTS
        return [x[at : at + step] for at in range(0, len(x), step)]


def _tensors(inputs: Inputs) -> ClientUpdate:
    (model,) = inputs.data.values()
    found: ClientUpdate = model
    return found
