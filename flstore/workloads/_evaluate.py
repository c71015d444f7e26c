"""How good weights are on data: one model a process, loaded again and again."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError
from flstore.workloads._data import load, version
from flstore.workloads._imports import call_path
from flstore.workloads._scores import check_task, judge
from flstore.workloads._small_images import SmallImages
from flstore.workloads._stages import as_tensor, check_module, check_names, torch_module

KEPT = 4
"""Models with their data that a process keeps ready."""
_BATCH_BYTES = 1 << 28
_TRIED = 4
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4
"""How far shortcuts may be from the model as it is, the latter in units of its largest output."""

_kept: OrderedDict[tuple[str, str, str], Evaluator] = OrderedDict()
_keeping = threading.Lock()


def evaluator(workload: str, model: str, data: str) -> Evaluator:
    """The evaluator of a model and data; those used last are kept, and shared by all threads of the process.

    Parameters
    ----------
    workload : str
        Who asks, for messages.
    model : str
        Import path of a function that returns a ``torch.nn.Module``.
    data : str
        Import path of a function that returns (x, y), or a path or URL of a file (.npz, .safetensors) with them.

    Raises
    ------
    InvalidParameterError
        Either cannot be imported or read, or the model cannot take the data.
    """
    key = (model, data, version(workload, data))
    with _keeping:
        found = _kept.pop(key, None) or Evaluator(workload, model, data)
        _kept[key] = found
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return found


class Evaluator:
    """A model into which weights are loaded, and the data that it is judged on. Safe to use from several threads.

    Everything is exact float32 (or whatever dtype the model has). Parameters as in :func:`evaluator`.

    Attributes
    ----------
    x : ndarray, shape (n, ...)
        Examples; floating-point ones in the dtype of the model (float32 for a bfloat16 one).
    y : ndarray, shape (n, ...), or None
        Labels.
    what : str
        Model and data in words, for messages.
    """

    def __init__(self, workload: str, model: str, data: str) -> None:
        check_task(workload, model, data)
        self._torch = torch_module()
        self._model = f"the model {model}()"  # without the workload: others will use it too
        self.what = f"{self._model} with the data {data}"
        self._data, self._alone = data, threading.RLock()
        self.x, self.y = load(workload, data)
        with self._torch.random.fork_rng(devices=[]):  # initial weights are drawn; the caller's numbers stay his own
            module = check_module(workload, model, call_path(workload, "model", model))
        self._module = module.eval().requires_grad_(False)
        self._names = set(module.state_dict())
        floats = [t.dtype for t in module.state_dict().values() if t.is_floating_point()]
        self._x = as_tensor(np.ascontiguousarray(self.x))
        if self._x.is_floating_point() and floats:
            self._x = self._x.to(floats[0])
            self.x = (self._x.float() if floats[0] is self._torch.bfloat16 else self._x).numpy()
        self._make_fast()
        rows = len(self.x)
        self._batch = min(rows, max(1, _BATCH_BYTES // max(1, 2 * self._small.largest_bytes)))

    def _make_fast(self) -> None:
        """Take the shortcuts and the memory format that give what the model gives as it is, where they do."""
        few = self._x[:_TRIED]
        with self._running():
            expected = self._forward(few)
            self._small = SmallImages(self._module, few)
        images = self._x.ndim == 4
        if images:  # outside of inference mode, where parameters cannot get new memory
            self._module.to(memory_format=self._torch.channels_last)
            self._x = self._x.contiguous(memory_format=self._torch.channels_last)
        with self._running():
            self._small.prepare()
            if _close(self._try(self._x[:_TRIED]), expected):
                return
        self._small.revert()
        if images:
            self._module.to(memory_format=self._torch.contiguous_format)
            self._x = self._x.contiguous(memory_format=self._torch.contiguous_format)

    def _try(self, x: Any) -> NDArray[Any] | None:
        try:
            return self._forward(x)
        except InvalidParameterError:  # it takes views of tensors that must be contiguous
            return None

    def _forward(self, x: Any) -> NDArray[Any]:
        try:
            outputs = self._module(x)
        except Exception as error:
            raise InvalidParameterError(
                f"{self._model} cannot take the data of {self._data}, shape {list(x.shape)} of {x.dtype}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(outputs, self._torch.Tensor) or outputs.ndim == 0 or len(outputs) != len(x):
            given = list(outputs.shape) if isinstance(outputs, self._torch.Tensor) else type(outputs).__name__
            raise InvalidParameterError(f"{self._model} gives {given} for {len(x)} examples, not one row for each")
        values: NDArray[Any] = (outputs.float() if outputs.dtype is self._torch.bfloat16 else outputs).numpy()
        return values

    @contextmanager
    def _running(self) -> Iterator[None]:
        # A Dask worker's environment says one thread; and the number of threads is one of the whole process.
        before, cores = self._torch.get_num_threads(), _cores()
        self._torch.set_num_threads(cores)
        try:
            with self._torch.inference_mode():
                yield
        finally:
            self._torch.set_num_threads(before)

    @contextmanager
    def loaded(self, tensors: Mapping[str, NDArray[Any]]) -> Iterator[Any]:
        """The model with these weights, in evaluation and inference mode; nobody else uses it meanwhile.

        Its layers may be hooked (take the hooks off again) and called with any input that the model takes. Its weights
        must not be changed, and nothing else asked of this evaluator meanwhile: there is one model.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            Copied into the model, in its dtypes.

        Raises
        ------
        InvalidParameterError
            They do not fit the model; the message names a tensor.
        """
        with self._alone, self._running():
            self._load(tensors)
            yield self._module

    def _load(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        key = getattr(tensors, "key", None)
        what = self._model if key is None else f"{self._model}, for the {key},"
        check_names(what, self._names, tensors)
        try:
            self._module.load_state_dict({name: as_tensor(_known(array)) for name, array in tensors.items()})
        except (RuntimeError, TypeError) as error:
            raise InvalidParameterError(f"{what} does not fit what is stored: {error}") from error
        self._small.prepare()

    def outputs(self, tensors: Mapping[str, NDArray[Any]], batch_size: int | None = None) -> NDArray[Any]:
        """What the model with these weights gives for each example, shape (n, ...); (n, classes) of a classifier.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            The weights.
        batch_size : int, optional
            Examples that go through the model at once; default as many as memory allows, all of them for small data.
        """
        step = batch_size or self._batch
        with self.loaded(tensors):
            return np.concatenate([self._forward(self._x[at : at + step]) for at in range(0, len(self._x), step)])

    def score(self, tensors: Mapping[str, NDArray[Any]], metric: str) -> float:
        """How good these weights are, higher is better.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            The weights.
        metric : str
            "accuracy"; "loss", the mean cross entropy with its sign turned; or the import path of a function of
            (outputs, y).

        Raises
        ------
        InvalidParameterError
            The metric is unknown, or cannot judge these outputs by these labels.
        """
        return judge(self.what, self.outputs(tensors), self.y, metric)


def _close(found: NDArray[Any] | None, expected: NDArray[Any]) -> bool:
    if found is None or found.shape != expected.shape:
        return False
    largest = float(np.abs(expected).max(initial=0.0))
    return bool(np.allclose(found, expected, rtol=_RELATIVE, atol=_ABSOLUTE * largest, equal_nan=True))


def _known(array: NDArray[Any]) -> NDArray[Any]:
    """Of a dtype that torch can take from NumPy; bfloat16 it can, by a way of ours."""
    foreign = array.dtype.name.startswith("float8")
    return array.astype(np.float32) if foreign else array


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
