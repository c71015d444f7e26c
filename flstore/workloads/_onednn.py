"""Linear layers and activations in as few passes over memory as there can be; by oneDNN where it does the same."""

from __future__ import annotations

import functools
from typing import Any

from flstore.workloads._stages import torch_module


@functools.cache
def activations() -> dict[type, str]:
    """Activations by oneDNN's names. Those of which it swallows NaN (hardsigmoid) are left out."""
    nn = torch_module().nn
    return {nn.ReLU: "relu", nn.SiLU: "swish", nn.GELU: "gelu", nn.Hardswish: "hardswish", nn.Sigmoid: "sigmoid"}


def activate(x: Any, name: str) -> Any:
    """An activation by its name ("" for none), in place where that is possible."""
    functional = torch_module().nn.functional
    if not name:
        return x
    if name == "gelu":
        return functional.gelu(x)
    if name == "sigmoid":
        return x.sigmoid_()
    return {"relu": functional.relu, "swish": functional.silu, "hardswish": functional.hardswish}[name](x, inplace=True)


def onednn(x: Any, after: str) -> Any:
    """Operations of oneDNN with an activation in them; None where it has them not."""
    torch = torch_module()
    if after == "relu" or not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return None  # its relu makes 0 of NaN
    operations = torch.ops.mkldnn
    fast = x.dtype is torch.float32 or (x.dtype is torch.bfloat16 and operations._is_mkldnn_bf16_supported())
    return operations if fast and hasattr(operations, "_linear_pointwise") else None


def linear(x: Any, weight: Any, bias: Any, after: str = "") -> Any:
    """x W^T + b of a matrix x, and an activation; with as few passes over memory as there can be."""
    operations = onednn(x, after)
    if operations is not None:
        return operations._linear_pointwise(x, weight, bias, after or "none", [], "none")
    return activate(torch_module().nn.functional.linear(x, weight, bias), after)
