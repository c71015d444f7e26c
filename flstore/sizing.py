"""How much memory a cache function gets, and how many requests it computes at a time: by model, as in section 5.1."""

from __future__ import annotations

from dataclasses import dataclass

from flstore.errors import InvalidParameterError, UnknownNameError

SHARE_OF_MACHINE = 0.6
LEAST_BYTES = 1 << 16
SMALL_UPDATE_BYTES = 64_000_000
"""Updates up to here get the small functions of the table: ResNet18 has 47 MB, EfficientNetV2-S 86."""


@dataclass(frozen=True, slots=True)
class FunctionSize:
    """What one cache function gets."""

    cores: int
    memory_bytes: int


SMALL, LARGE = FunctionSize(1, 2 << 30), FunctionSize(2, 4 << 30)
SIZES = {"swin_v2_t": LARGE, "efficientnet_v2_s": LARGE, "resnet18": SMALL, "mobilenet_v3_small": SMALL}
"""Section 5.1 of the paper."""
DEFAULT = FunctionSize(1, LARGE.memory_bytes)
"""When nothing is known of the model: room for the larger ones."""


def function_size(
    memory: int | str | None, model: str | None, largest_update_bytes: int = 0, functions: int = 0
) -> FunctionSize:
    """What each function gets.

    Parameters
    ----------
    memory : int or str, optional
        As asked for; default by model.
    model : str, optional
        A name of ``SIZES``; default by the largest update that is stored, if any.
    largest_update_bytes : int
        Bytes of that update, 0 when nothing is stored.
    functions : int
        How many share this machine (then they get no more than it has); 0 when they are elsewhere.

    Raises
    ------
    InvalidParameterError
        `memory` is no size, or too small to hold anything.
    UnknownNameError
        The table has no such model.
    """
    if model is not None and model not in SIZES:
        raise UnknownNameError.of("model size", model, SIZES)
    if model is not None:
        size = SIZES[model]
    elif largest_update_bytes:
        size = SMALL if largest_update_bytes <= SMALL_UPDATE_BYTES else LARGE
    else:
        size = DEFAULT
    if memory is not None:
        return FunctionSize(size.cores, _bytes(memory))
    if not functions:
        return size
    import psutil

    share = int(psutil.virtual_memory().total * SHARE_OF_MACHINE / functions)
    return FunctionSize(size.cores, min(size.memory_bytes, share))


def _bytes(memory: int | str) -> int:
    from dask.utils import parse_bytes

    try:
        size = int(parse_bytes(memory))
    except (ValueError, TypeError, AttributeError):
        raise InvalidParameterError(f"memory must be bytes or a size such as '2GiB', got {memory!r}") from None
    if size < LEAST_BYTES:
        raise InvalidParameterError(f"memory={memory!r} is {size} bytes; a function needs at least {LEAST_BYTES}")
    return size
