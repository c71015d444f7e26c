"""How much memory a cache function gets."""

from __future__ import annotations

from flstore.errors import InvalidParameterError

DEFAULT_BYTES = 4 << 30
"""What the paper gives its larger functions (section 5.1)."""
SHARE_OF_MACHINE = 0.6
LEAST_BYTES = 1 << 16


def function_memory(memory: int | str | None, functions: int) -> int:
    """Bytes for one of `functions` functions: as asked for, or the default within what the machine has.

    Raises
    ------
    InvalidParameterError
        `memory` is no size, or too small to hold anything.
    """
    if memory is None:
        import psutil

        return min(DEFAULT_BYTES, int(psutil.virtual_memory().total * SHARE_OF_MACHINE / functions))
    from dask.utils import parse_bytes

    try:
        size = int(parse_bytes(memory))
    except (ValueError, TypeError):
        raise InvalidParameterError(f"memory must be bytes or a size such as '2GiB', got {memory!r}") from None
    if size < LEAST_BYTES:
        raise InvalidParameterError(f"memory={memory!r} is {size} bytes; a function needs at least {LEAST_BYTES}")
    return size
