"""Which neurons of a model an input activates, as bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.workloads._stages import torch_module

Bits = NDArray[np.bool_]
Counts = NDArray[np.int64]


def activations(module: Any, x: Any, threshold: float, layers: int | None = None) -> tuple[Bits, bool]:
    """The neurons whose output is above a threshold, input by input, and whether what the model gave is finite.

    A neuron is an element of the output of a layer with weights that has no layers of its own. The sign of what goes
    into a ReLU says whether the ReLU is active, so nothing is lost by looking before it.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode.
    x : torch.Tensor, shape (inputs, ...)
    threshold : float
    layers : int, optional
        Look at the first so many only.

    Returns
    -------
    (ndarray of bool, shape (inputs, neurons); bool)
    """
    torch = torch_module()
    seen: list[Any] = []

    def look(layer: Any, given: Any, result: Any) -> None:
        if layers is not None and len(seen) >= layers:
            return
        tensor = isinstance(result, torch.Tensor) and result.ndim > 0 and result.is_floating_point()
        if tensor and len(result) % len(x) == 0:
            # Windows of attention are more rows than inputs, those of one input beside each other.
            seen.append((result > threshold).reshape(len(x), -1))

    with _hooked(module, look):
        outputs = module(x)
    finite = bool(torch.isfinite(outputs).all()) if isinstance(outputs, torch.Tensor) else True
    bits: Bits = torch.cat(seen, 1).numpy() if seen else np.zeros((len(x), 0), bool)
    return bits, finite


@contextmanager
def _hooked(module: Any, look: Any) -> Iterator[None]:
    layers = [m for m in module.modules() if not any(m.children()) and any(True for _ in m.parameters())]
    hooks = [layer.register_forward_hook(look) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def common(bits: NDArray[np.bool_]) -> tuple[Counts, Counts]:
    """How many neurons all clients activate together, for each input, and how many more without each of them.

    All but client i activate a neuron exactly when everybody does, or everybody but i. So one count for each neuron is
    enough, and no set is intersected.

    Parameters
    ----------
    bits : ndarray of bool, shape (clients, inputs, neurons)

    Returns
    -------
    (ndarray of int64, shape (inputs,); ndarray of int64, shape (clients, inputs))
    """
    active = bits.sum(axis=0, dtype=np.int32)
    but_one = active == len(bits) - 1
    more: Counts = np.array([(but_one & ~own).sum(axis=1) for own in bits], dtype=np.int64)
    return (active == len(bits)).sum(axis=1), more
