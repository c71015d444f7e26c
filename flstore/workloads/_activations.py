"""Which neurons of a model an input activates, as bits, and what many models have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.workloads._stages import torch_module

Bits = NDArray[np.uint8]
Counts = NDArray[np.int64]


def activations(module: Any, x: Any, threshold: float, layers: int | None = None) -> tuple[NDArray[np.bool_], bool]:
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
    rows = len(x)

    def look(layer: Any, given: Any, result: Any) -> None:
        if layers is not None and len(seen) >= layers:
            return
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            shape = result.shape  # len() of a tensor takes as long as a small layer
            if shape and shape[0] % rows == 0:
                # Windows of attention are more rows than inputs, those of one input beside each other.
                seen.append((result > threshold).reshape(rows, -1))

    with _hooked(module, look):
        outputs = module(x)
    finite = bool(torch.isfinite(outputs).all()) if isinstance(outputs, torch.Tensor) else True
    bits: NDArray[np.bool_] = torch.cat(seen, 1).numpy() if seen else np.zeros((rows, 0), bool)
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


def common(bits: Bits, neurons: int) -> tuple[Counts, Counts]:
    """How many neurons all clients activate together, for each input, and how many more without each of them.

    All but client i activate a neuron exactly when everybody does, or everybody but i. So one count for each neuron is
    enough, and no set is intersected.

    Parameters
    ----------
    bits : ndarray of uint8, shape (clients, inputs, ceil(neurons / 8))
        Eight neurons a byte (``numpy.packbits``).
    neurons : int

    Returns
    -------
    (ndarray of int64, shape (inputs,); ndarray of int64, shape (clients, inputs))
    """
    together = np.empty(bits.shape[1], dtype=np.int64)
    more = np.empty(bits.shape[:2], dtype=np.int64)
    for row in range(bits.shape[1]):
        active = np.unpackbits(bits[:, row], axis=1, count=neurons).view(np.bool_)
        count = active.sum(axis=0, dtype=np.int32)
        but_one = count == len(bits) - 1
        together[row] = np.count_nonzero(count == len(bits))
        more[:, row] = [np.count_nonzero(but_one & ~own) for own in active]
    return together, more
