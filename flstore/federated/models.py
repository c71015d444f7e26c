"""The networks of the paper's evaluation, for small images, and their tensors by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError, InvalidUpdateError, OptionalDependencyError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

MODELS = ("efficientnet_v2_s", "resnet18", "mobilenet_v3_small", "swin_v2_t")
"""Names that :func:`build` knows. With ten classes their state is 81.4, 44.8, 6.2 and 110.8 MB."""

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def build(name: str, *, num_classes: int = 10, seed: int = 0) -> Module:
    """Build a network with fresh weights; equal arguments give equal weights.

    Parameters
    ----------
    name : str
        One of :data:`MODELS`.
    num_classes : int
        Width of the last layer.
    seed : int
        Seed of the initial weights. Torch's global random state is left as it was.

    Returns
    -------
    torch.nn.Module
        In training mode, float32, on the CPU. Takes images of shape (n, 3, height, width).

    Raises
    ------
    UnknownNameError
        No model has this name.
    InvalidParameterError
        `num_classes` is below one.
    OptionalDependencyError
        torch or torchvision is not installed.

    Examples
    --------
    >>> model = build("mobilenet_v3_small", seed=1)
    >>> len(state_arrays(model))
    244
    """
    if name not in MODELS:
        raise UnknownNameError.of("model", name, MODELS)
    if num_classes < 1:
        raise InvalidParameterError(f"num_classes is {num_classes}; a model needs at least 1")
    torch: Any = torch_module()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torchvision_module().models.get_model(name, weights=None, num_classes=num_classes)
    with torch.no_grad():
        _suit_clients(name, model)
    return cast("Module", model)


def _suit_clients(name: str, model: Any) -> None:
    """Undo what is meant for long epochs on a million images: clients have a few batches of about 16 a round.

    efficientnet_v2_s: its residual branches start at zero (Goyal et al. 2017, section 5.1). Otherwise the mean of
    models that moved apart in forty blocks has smaller activations than each of them, the running variances that batch
    normalisation takes from the clients are too large for it, and it gives one answer to every image. With five clients
    a round it was at 0.56 of the digits after seven rounds without this, and at 0.93 after six with it.

    efficientnet_v2_s and mobilenet_v3_small: running statistics move by 0.3 a batch, not by 0.1 or 0.01. With four
    batches a round they would stay near where they started. mobilenet_v3_small stays at 0.11 without it; for
    efficientnet_v2_s it was taken over.

    efficientnet_v2_s and swin_v2_t: no stochastic depth and no dropout, which are for many epochs and take signal from
    few steps. Not tried with them.
    """
    from torch import nn

    if name in ("efficientnet_v2_s", "mobilenet_v3_small"):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.3
    if name in ("efficientnet_v2_s", "swin_v2_t"):
        for module in model.modules():
            if isinstance(module, (nn.Dropout, torchvision_module().ops.StochasticDepth)):
                module.p = 0.0
    if name == "efficientnet_v2_s":
        for module in model.modules():
            if getattr(module, "use_res_connect", False):
                module.block[-1][1].weight.zero_()


def state_arrays(module: Module) -> dict[str, NDArray[Any]]:
    """Copy the parameters and buffers of a module, by name in its own order.

    bfloat16 tensors become arrays of ``ml_dtypes.bfloat16``; every other dtype keeps its NumPy name.

    Parameters
    ----------
    module : torch.nn.Module
        Stays as it is.
    """
    return {name: _to_numpy(tensor.detach().cpu()) for name, tensor in module.state_dict().items()}


def load_arrays(module: Module, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Copy arrays into the parameters and buffers of a module, casting to its dtypes.

    Parameters
    ----------
    module : torch.nn.Module
        Is changed.
    arrays : dict of str to ndarray
        By name, as :func:`state_arrays` gives them.

    Raises
    ------
    InvalidUpdateError
        Names or shapes differ from the module's. The module is unchanged.
    """
    torch = torch_module()
    own = module.state_dict()
    wrong = sorted(set(own) ^ set(arrays)) or [n for n, t in own.items() if tuple(t.shape) != arrays[n].shape]
    if wrong:
        name = wrong[0]
        here = tuple(own[name].shape) if name in own else "absent"
        given = arrays[name].shape if name in arrays else "absent"
        raise InvalidUpdateError(
            f"{len(wrong)} tensors do not fit {type(module).__name__}; the first is {name!r}: the model has {here}, "
            f"the update {given}. Build the model that the update was trained on."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            array = arrays[name]
            if array.dtype.kind == "V" or array.dtype.name == "bfloat16":
                array = array.astype(np.float32)  # exact, and torch takes no foreign dtypes
            tensor.copy_(torch.from_numpy(np.array(array, order="C")))  # a copy: torch warns about read-only memory


def _to_numpy(tensor: Tensor) -> NDArray[Any]:
    torch = torch_module()
    if tensor.dtype is torch.bfloat16:
        import ml_dtypes

        bits: NDArray[Any] = tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return bits.copy()
    array: NDArray[Any] = tensor.numpy()
    return array.copy()


def torch_module() -> Any:
    """torch, or an error that says how to install it."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise OptionalDependencyError.of("torch", "torch", "A model") from error
    return torch


@lru_cache(maxsize=1)
def torchvision_module() -> Any:
    """Import torchvision, also where its compiled operators do not fit the torch that is installed."""
    torch = torch_module()
    try:
        import torchvision
    except ModuleNotFoundError as error:
        raise OptionalDependencyError.of("torchvision", "torch", "A model") from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        return _torchvision_without_operators(torch)
    return torchvision


def _torchvision_without_operators(torch: Any) -> Any:
    # A torchvision wheel built for CUDA cannot load its operators beside a CPU-only torch, and fails at import because
    # two of them have no schema. Models need neither, so the schemas alone are enough.
    import sys

    for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[module]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(operator + _NMS)
    import torchvision

    torchvision.flstore_library = library  # the schemas live only as long as this object
    return torchvision
