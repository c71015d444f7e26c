"""Weighted means of client updates as models, and which updates can be part of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.codec import ClientUpdate
from flstore.tensors import nonfinite
from flstore.workloads._gram import check_signatures, flat, is_floating
from flstore.workloads._stages import as_tensor, torch_module

_SQUARED = ("float32", "float64", "complex64")


def weighted_mean(updates: Sequence[ClientUpdate], weights: Sequence[float]) -> dict[str, NDArray[Any]]:
    """The model whose tensors are weighted means of those of the updates.

    Parameters
    ----------
    updates : sequence of ClientUpdate
        At least one; with equal tensors.
    weights : sequence of float
        One an update, one altogether.

    Returns
    -------
    dict of str to ndarray
        Floating-point tensors, summed in float32 (float64 and complex in their own); others, such as counters, are
        averaged and rounded.

    Raises
    ------
    InvalidUpdateError
        The updates have different tensors.
    """
    check_signatures(updates)
    return {name: _mean([update[name] for update in updates], weights) for name in updates[0]}


def _mean(tensors: Sequence[NDArray[Any]], weights: Sequence[float]) -> NDArray[Any]:
    if not is_floating(tensors[0].dtype.name):
        total = sum(tensor.astype(np.float64) * weight for tensor, weight in zip(tensors, weights, strict=True))
        return np.asarray(np.rint(total), tensors[0].dtype)  # arithmetic makes scalars of 0-d arrays
    torch = torch_module()
    wide = [as_tensor(t if t.dtype.kind in "fc" and t.dtype.itemsize >= 4 else t.astype(np.float32)) for t in tensors]
    mean = wide[0] * weights[0]
    for tensor, weight in zip(wide[1:], weights[1:], strict=True):
        mean = torch.add(mean, tensor, alpha=weight, out=mean)
    found: NDArray[Any] = mean.numpy()
    return found


def is_finite(update: Mapping[str, NDArray[Any]]) -> bool:
    """Whether an update is free of NaN and infinities, in one pass at the speed of memory."""
    if isinstance(update, ClientUpdate):
        lines = [flat(run) for dtype in _SQUARED for run in update.runs(dtype)]
        with np.errstate(over="ignore", invalid="ignore"):
            squares = [float(np.dot(line, line)) for line in lines]
        others = [dtype for dtype in update.dtypes if is_floating(dtype) and dtype not in _SQUARED]
        if not others and np.isfinite(squares).all():
            return True
    return not nonfinite(update)  # squares may have overflowed
