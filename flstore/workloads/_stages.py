"""Layers of a torch model with the tensors of an object as their weights, nothing allocated twice."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError, NotStagedError, OptionalDependencyError
from flstore.workloads._imports import call_path


def torch_module() -> Any:
    """torch, or an error that says how to install it."""
    try:
        return _torch()
    except ImportError as error:
        raise OptionalDependencyError.of("torch", "torch", "Running a model") from error


@functools.cache
def _torch() -> Any:
    import torch

    with warnings.catch_warnings():
        # It says once a process that memory is read-only. Silenced here, because filters are not a thread's own.
        warnings.simplefilter("ignore")
        torch.from_numpy(np.frombuffer(bytes(4), np.float32))
    return torch


class Stages:
    """The layers of a model that can run one after the other.

    Parameters
    ----------
    workload, path : str
        Who asks, and the import path of the factory. The model is built on torch's meta device, without weights.

    Raises
    ------
    InvalidParameterError
        The factory cannot be imported, raised, or returned no model.
    """

    def __init__(self, workload: str, path: str) -> None:
        torch = torch_module()
        with torch.device("meta"):
            model = call_path(workload, "model", path)
        self._what = f"{workload}: the model {path}()"
        self.model = check_module(workload, path, model).eval()
        names = {id(t): name for name, t in model.state_dict(keep_vars=True).items()}
        self._names = set(names.values())
        self.layers: list[tuple[Any, dict[str, str]]] = []
        for layer in self._layers(torch):
            local = layer.state_dict(keep_vars=True)
            self.layers.append((layer.eval(), {mine: names[id(t)] for mine, t in local.items() if id(t) in names}))

    def _layers(self, torch: Any) -> list[Any]:
        if callable(getattr(self.model, "stages", None)):
            return list(self.model.stages())
        return list(self.model.children()) if isinstance(self.model, torch.nn.Sequential) else [self.model]

    def of_part(self, tensors: Mapping[str, NDArray[Any]], part: int) -> Any:
        """The layers that these tensors are of, loaded, and the layers without tensors that follow them.

        Raises
        ------
        NotStagedError
            A layer has some of its tensors here and some elsewhere, or these layers do not follow each other.
        """
        mine = [names and set(names.values()) <= set(tensors) for _, names in self.layers]
        torn = [i for i, (_, names) in enumerate(self.layers) if not mine[i] and set(names.values()) & set(tensors)]
        belongs: list[bool] = []
        for i, (_, names) in enumerate(self.layers):
            before = belongs[-1] if belongs else part == 0
            belongs.append(bool(mine[i]) if names else before)
        chosen = [i for i, here in enumerate(belongs) if here]
        if torn or not chosen or chosen != list(range(chosen[0], chosen[-1] + 1)):
            raise NotStagedError(
                f"{self._what} cannot be run in these parts; its layers would have to lie whole in them"
            )
        return [self._loaded(layer, names, tensors) for layer, names in (self.layers[i] for i in chosen)]

    def whole(self, tensors: Mapping[str, NDArray[Any]]) -> Any:
        """All layers, loaded."""
        check_names(self._what, self._names, tensors)
        return [self._loaded(layer, names, tensors) for layer, names in self.layers]

    def loaded(self, tensors: Mapping[str, NDArray[Any]]) -> Any:
        """The model as it is, with these weights."""
        check_names(self._what, self._names, tensors)
        return self._loaded(self.model, {name: name for name in self._names}, tensors)

    def _loaded(self, layer: Any, names: Mapping[str, str], tensors: Mapping[str, NDArray[Any]]) -> Any:
        state = {mine: as_tensor(tensors[name]) for mine, name in names.items()}
        try:
            layer.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise InvalidParameterError(f"{self._what} does not fit what is stored: {error}") from error
        left = [name for name, t in (*layer.named_parameters(), *layer.named_buffers()) if t.is_meta]
        if left:
            raise InvalidParameterError(f"{self._what} has {left[0]!r}, which is in no state_dict and so is not stored")
        return layer


def check_module(workload: str, path: str, model: Any) -> Any:
    """What a factory returned; raises InvalidParameterError unless it is a torch model."""
    if not isinstance(model, torch_module().nn.Module):
        raise InvalidParameterError(f"{workload}: {path}() returned a {type(model).__name__}, not a torch model")
    return model


def check_names(what: str, own: Collection[str], tensors: Mapping[str, Any]) -> None:
    """Raise InvalidParameterError unless the tensors that are stored are those of the model."""
    odd = set(own) ^ set(tensors)
    if odd:
        name = min(odd)
        where = "which the stored object lacks" if name in own else "which is not in it but is stored"
        raise InvalidParameterError(f"{what} does not fit: tensor {name!r}, {where}")


def as_tensor(array: NDArray[Any]) -> Any:
    """A torch tensor on the memory of an array; for reading only."""
    torch = torch_module()
    narrow = dtype_name(array.dtype) == "bfloat16"
    return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16) if narrow else torch.from_numpy(array)


@functools.cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """``dtype.name``, which NumPy composes anew each time: a third of what loading many small tensors took."""
    return dtype.name


@contextmanager
def torch_threads(count: int | None = None) -> Iterator[None]:
    """Let torch use so many threads, or every core: a Dask worker's environment says one."""
    torch = torch_module()
    before = torch.get_num_threads()  # some such numbers are of the whole process
    torch.set_num_threads(count or available_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(layers: list[Any], batches: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """What comes out of `layers`, batch by batch."""
    torch = torch_module()
    found = []
    with torch_threads(), torch.inference_mode():
        for batch in batches:
            values = as_tensor(batch)
            for layer in layers:
                values = layer(values)
            found.append(values.numpy())
    return found


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
