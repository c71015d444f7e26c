"""What no system can go below on this machine: one pass over the bytes, or the products of the forward passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.latency.parameters import Parameters
from benchmarks.latency.task import held_out
from flstore.federated.models import build, state_arrays

_REPETITIONS = 5
_SIDE = 4096


def floors(model: str, parameters: Parameters) -> pd.Series:
    """Seconds of each workload on the updates of a round, by workload.

    Bytes go by at the rate at which NumPy sums them with one thread, multiplications at that of a large float32 matrix
    product with all. What a workload does to the bytes and multiplies is counted once: each update and the model that
    it started from are read, each model that is judged goes forward over all examples. Products with padding are none.
    """
    sum_s = _seconds_a_byte()
    network = build(model).eval()
    size = sum(array.nbytes for array in state_arrays(network).values())
    forward_s = flops_of(model) * _seconds_a_flop()
    updates = parameters.clients_per_round
    clusters = parameters.workloads["personalization"]["clusters"]
    read_s = (updates + 1) * size * sum_s
    forward = {
        "inference": 1, "incentives": updates, "scheduling_performance": updates, "personalization": updates + clusters,
    }  # fmt: skip
    found = {w: forward[w] * forward_s if w in forward else read_s for w in parameters.workloads}
    found["personalization"] += read_s
    return pd.Series(found, name=model)


def flops_of(model: str) -> int:
    """Floating-point operations of one model on all examples, without what is multiplied with padding."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.from_numpy(held_out()[0][:1].copy())
    network = build(model).eval()
    padding = [0]
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda layer, given, _: padding.append(_with_padding(layer, given[0].shape)))
        elif type(layer).__name__ == "ShiftedWindowAttentionV2":
            layer.register_forward_hook(lambda layer, given, _: padding.append(_of_windows(layer, given[0].shape)))
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        network(x)
    return len(held_out()[0]) * (int(counted.get_total_flops()) - sum(padding))


def _of_windows(layer: Any, shape: tuple[int, ...]) -> int:
    """Floating-point operations of an attention that fills its windows with padding, on one image."""
    (height, width, channels), (down, right) = shape[1:], layer.window_size
    real, window = height * width, down * right
    padded = -(-height // down) * down * -(-width // right) * right
    return 2 * (padded - real) * channels * 4 * channels + 4 * channels * (padded * window - real * min(real, window))


def _with_padding(layer: Any, shape: tuple[int, ...]) -> int:
    """Floating-point operations of a convolution of one image that multiply padding."""
    inside, all_of_them = 1, 1
    for size, pad, step, kernel, stride in zip(
        shape[2:], layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True
    ):
        out = (size + 2 * pad - step * (kernel - 1) - 1) // stride + 1
        at = np.arange(out)[:, None] * stride - pad + np.arange(kernel) * step
        inside, all_of_them = inside * int(((at >= 0) & (at < size)).sum()), all_of_them * at.size
    return 2 * (all_of_them - inside) * layer.in_channels // layer.groups * layer.out_channels


def _seconds_a_byte() -> float:
    numbers = np.ones(1 << 26, np.float32)
    return _best(lambda: numbers.sum()) / numbers.nbytes


def _seconds_a_flop() -> float:
    import torch

    a, b = (torch.randn(_SIDE, _SIDE) for _ in range(2))
    return _best(lambda: a @ b) / (2 * _SIDE**3)


def _best(work: Callable[[], object]) -> float:
    took = []
    for _ in range(_REPETITIONS):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)
