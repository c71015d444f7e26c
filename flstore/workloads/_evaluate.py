"""How good weights are on data: one model a process, loaded again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flstore.workloads._data import load, version
from flstore.workloads._imports import call_path
from flstore.workloads._model import Model
from flstore.workloads._scores import check_task, judge
from flstore.workloads._stages import as_tensor, available_cores, check_module, torch_module, torch_threads

KEPT = 4
"""Models with their data that a process keeps ready."""
_BATCH_BYTES = 1 << 24
"""Of the largest output of a layer. What is larger by far gets fresh memory each time, which costs more than it."""
_PLAIN_BYTES = 1 << 27
"""The same for a model without shortcuts: as much as memory will surely have."""
AT_ONCE = 2
"""Models at once, each with its share of the cores: threads of one model wait for each other at every layer."""
_FEWEST = 32
"""Examples in a batch below which nothing is gained by sharing them out."""
_TRIED = 4
T = TypeVar("T")
Tensors = Mapping[str, NDArray[Any]]

_kept: OrderedDict[tuple[str, ...], Evaluator] = OrderedDict()
_keeping = threading.Lock()


def evaluator(workload: str, model: str, data: str, precision: str | None = None) -> Evaluator:
    """The evaluator of a model and data; those used last are kept, and shared by all threads of the process.

    Parameters
    ----------
    workload : str
        Who asks, for messages.
    model : str
        Import path of a function that returns a ``torch.nn.Module``.
    data : str
        Import path of a function that returns (x, y), or a path or URL of a file (.npz, .safetensors) with them.
    precision : {"float32", "bfloat16"}, optional
        Default: that of the model.

    Raises
    ------
    InvalidParameterError
        Either cannot be imported or read, or the model cannot take the data.
    """
    key = (model, data, version(workload, data), precision or "")
    with _keeping:
        found = _kept.pop(key, None) or Evaluator(workload, model, data, precision)
        _kept[key] = found
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return found


def kept_bytes() -> int:
    """What the models and data that this process keeps ready take."""
    return sum(found.size_bytes for found in list(_kept.values()))


class Evaluator:
    """A model into which weights are loaded, and the data that it is judged on. Safe to use from several threads.

    Everything is exact float32 (or whatever dtype the model has) unless `precision` is "bfloat16". Equal weights give
    equal outputs, to the last bit, alone or with others. Parameters as in :func:`evaluator`.

    Attributes
    ----------
    x : ndarray, shape (n, ...)
        Examples; floating-point ones in the dtype of the model (float32 for a bfloat16 one).
    y : ndarray, shape (n, ...), or None
        Labels.
    what : str
        Model and data in words, for messages.
    piece : str
        What its outputs are called among what a function keeps of an object: other data has another name.
    size_bytes : int
        What it takes while nothing is evaluated: models, what is kept for their shortcuts, and data.
    """

    def __init__(self, workload: str, model: str, data: str, precision: str | None = None) -> None:
        check_task(workload, model, data)
        self._torch = torch_module()
        named = f"the model {model}()"  # without the workload: others will use it too
        self.what = f"{named} with the data {data}"
        self.piece = f"{outputs_name(model, data, precision)} {version(workload, data)}"
        self._alone = threading.RLock()
        self.x, self.y = load(workload, data)
        with self._torch.random.fork_rng(devices=[]):  # initial weights are drawn; the caller's numbers stay his own
            module = check_module(workload, model, call_path(workload, "model", model))
        module = module.eval().requires_grad_(False)
        if precision is not None:
            module = module.to(getattr(self._torch, precision))
        floats = [t.dtype for t in module.state_dict().values() if t.is_floating_point()]
        self._x = as_tensor(np.ascontiguousarray(self.x))
        if self._x.is_floating_point() and floats:
            self._x = self._x.to(floats[0])
            self.x = (self._x.float() if floats[0] is self._torch.bfloat16 else self._x).numpy()
        self._specialise(Model(module, named, data))
        own = {tensor.data_ptr(): tensor.nbytes for model in self._models for tensor in model.tensors()}
        self.size_bytes = sum(own.values()) + self.x.nbytes + self._x.nbytes

    def _specialise(self, model: Model) -> None:
        layout = model.specialise(self._x[:_TRIED], self._running)
        self._models, rows = [model], len(self.x)
        most = _PLAIN_BYTES // model.largest_bytes
        if layout is not None:
            self._x = self._x.contiguous(memory_format=layout)
            most = _BATCH_BYTES // model.largest_bytes
            if min(available_cores(), AT_ONCE) > 1:
                with self._running():
                    twin = model.twin(self._x[:_TRIED])
                self._models += [] if twin is None else [twin]
        batches = -(-rows // max(1, most)) if model.by_row else 1
        if model.by_row and rows >= _FEWEST * len(self._models):
            batches = -(-batches // len(self._models)) * len(self._models)
        self._batch = -(-rows // batches)
        self._threads = max(1, available_cores() // len(self._models))
        self._pool = ThreadPoolExecutor(len(self._models), thread_name_prefix="flstore-evaluate")

    @contextmanager
    def _running(self, threads: int | None = None) -> Iterator[None]:
        with torch_threads(threads), self._torch.inference_mode():
            yield

    def each(self, many: Sequence[Tensors], work: Callable[[Any], T]) -> list[T]:
        """What `work` makes of the model with each of these weights, in evaluation and inference mode.

        Its layers may be hooked (take the hooks off again) and called with any input that the model takes. Its weights
        must not be changed or kept. Several run at once, each a model of its own.

        Parameters
        ----------
        many : sequence of mappings of str to ndarray
            Weights; they are taken in the dtypes of the model.
        work : callable
            Takes a ``torch.nn.Module``.

        Raises
        ------
        InvalidParameterError
            They do not fit the model; the message names a tensor.
        """

        def one(tensors: Tensors, model: Model) -> T:
            with model.loaded(tensors, fused=False):
                return work(model.module)

        return self._share_out([partial(one, tensors) for tensors in many])

    def _share_out(self, tasks: Sequence[Callable[[Model], T]]) -> list[T]:
        """Results of tasks, each of which has a model for itself meanwhile."""
        found: list[Any] = [None] * len(tasks)
        left = iter(range(len(tasks)))

        def run(model: Model) -> None:
            with self._running(self._threads):
                for at in left:  # the next one that nobody has taken; the interpreter's lock guards it
                    found[at] = tasks[at](model)

        with self._alone, self._running(self._threads):
            workers = [self._pool.submit(run, model) for model in self._models[: len(tasks)]]
            for worker in [worker for worker in workers if worker.exception()]:
                worker.result()
        return found

    def outputs_of(self, many: Sequence[Tensors], batch_size: int | None = None) -> list[NDArray[Any]]:
        """:meth:`outputs` for each of many weights: one model on each share of the cores.

        Parameters
        ----------
        many : sequence of mappings of str to ndarray
            Weights.
        batch_size : int, optional
            As in :meth:`outputs`.
        """
        step, rows = batch_size or self._batch, len(self._x)
        starts = range(0, rows, step)
        # What is left over when all models have had equally many is shared out by examples.
        whole = len(many) - len(many) % len(self._models)
        shares = [(i, starts) for i in range(whole)]
        parts = min(len(self._models), len(starts))
        shares += [(i, starts[part::parts]) for i in range(whole, len(many)) for part in range(parts)]

        def run(i: int, mine: Sequence[int], model: Model) -> list[tuple[int, NDArray[Any]]]:
            with model.loaded(many[i]):
                return [(at, model.forward(self._x[at : at + step])) for at in mine]

        done = self._share_out([partial(run, i, mine) for i, mine in shares])
        pieces: list[dict[int, NDArray[Any]]] = [{} for _ in many]
        for (i, _), some in zip(shares, done, strict=True):
            pieces[i].update(some)
        return [np.concatenate([own[at] for at in starts]) for own in pieces]

    def outputs(self, tensors: Tensors, batch_size: int | None = None) -> NDArray[Any]:
        """What the model with these weights gives for each example, shape (n, ...); (n, classes) of a classifier.

        Parameters
        ----------
        tensors : mapping of str to ndarray
            The weights.
        batch_size : int, optional
            Examples that go through the model at once; default as many as the processor's memory is fast for.
        """
        return self.outputs_of([tensors], batch_size)[0]

    def score(self, tensors: Tensors, metric: str) -> float:
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
        return self.judge(self.outputs(tensors), metric)

    def judge(self, outputs: NDArray[Any], metric: str) -> float:
        """How good these outputs are, as in :meth:`score`."""
        return judge(self.what, outputs, self.y, metric)


def outputs_name(model: Any, data: Any, precision: str | None) -> str:
    """What outputs are called among pieces, as far as parameters say."""
    return f"outputs of {model} on {data} in {precision or 'its own precision'}"
