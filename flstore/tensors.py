"""Tensors in memory: what may enter an update, aligned bytes, and a count of values that are not finite."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidUpdateError

Buffer: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]
Bytes: TypeAlias = NDArray[np.uint8]

ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector load."""
_CHUNK = 1 << 18
_OWN_PAGES_BYTES = 1 << 20

DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"), "U8": np.dtype("u1"), "I8": np.dtype("i1"), "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"), "U32": np.dtype("<u4"), "I32": np.dtype("<i4"), "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"), "F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"), "BF16": np.dtype(ml_dtypes.bfloat16), "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2), "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "F8_E4M3FNUZ": np.dtype(ml_dtypes.float8_e4m3fnuz), "F8_E5M2FNUZ": np.dtype(ml_dtypes.float8_e5m2fnuz),
}  # fmt: skip
"""safetensors tags and their NumPy dtypes, little-endian."""
BY_NAME = {dtype.name: (tag, dtype) for tag, dtype in DTYPES.items()}
"""(tag, dtype) by NumPy's name of the dtype."""


def as_bytes(buffer: Buffer) -> memoryview:
    """A flat view of bytes on any bytes-like object, no copy."""
    view = buffer.data if isinstance(buffer, np.ndarray) else memoryview(buffer)
    return view.cast("B")


def aligned_empty(size_bytes: int) -> Bytes:
    """Uninitialised bytes that start at a multiple of 64."""
    whole = np.empty(size_bytes + ALIGNMENT, np.uint8)
    skip = -whole.ctypes.data % ALIGNMENT
    return whole[skip : skip + size_bytes]


def own_pages(size_bytes: int) -> Bytes:
    """Bytes for long keeping that start at a multiple of 64: the system gets their memory back when they go.

    What an allocator gets back it may keep, in pieces between what is still in use.
    """
    if size_bytes < _OWN_PAGES_BYTES:
        return aligned_empty(size_bytes)
    pages = mmap.mmap(-1, size_bytes)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(pages, np.uint8)


def aligned_copy(buffer: Buffer, empty: Callable[[int], Bytes] = aligned_empty) -> Bytes:
    """A copy of `buffer` that starts at a multiple of 64 and belongs to the caller."""
    source = np.frombuffer(as_bytes(buffer), np.uint8)
    copy = empty(source.nbytes)
    np.copyto(copy, source)  # without the interpreter's lock, unlike a slice of a memoryview
    return copy


def aligned(buffer: Buffer) -> Bytes:
    """The bytes of `buffer`, copied only when they do not start at a multiple of 64."""
    found = np.frombuffer(as_bytes(buffer), dtype=np.uint8)
    return found if found.ctypes.data % ALIGNMENT == 0 else aligned_copy(found)


def nonfinite(update: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Count NaN and infinities, in chunks.

    Returns
    -------
    dict of str to int
        Tensor name to count, for the tensors that have any; empty when all values are finite.
    """
    found: dict[str, int] = {}
    for name, array in update.items():
        if array.dtype.kind in "biu":
            continue
        flat = array.reshape(-1)
        chunks = (flat[i : i + _CHUNK] for i in range(0, flat.size, _CHUNK))
        bad = flat.size - sum(int(np.count_nonzero(np.isfinite(chunk))) for chunk in chunks)
        if bad:
            found[name] = bad
    return found


def as_arrays(tensors: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """NumPy views of tensors, in the same order; a copy is made only where a device or a lazy sign asks for it.

    Raises
    ------
    InvalidUpdateError
        Not a mapping, empty, a name or dtype that safetensors cannot hold, or a tensor without data.
    """
    if not isinstance(tensors, Mapping):
        raise InvalidUpdateError(f"an update is a mapping of names to tensors, not {type(tensors).__name__}")
    if not tensors:
        raise InvalidUpdateError("an update needs at least one tensor")
    arrays = {}
    for name, value in tensors.items():
        if not isinstance(name, str) or name == "__metadata__":
            raise InvalidUpdateError(f"tensor name {name!r}: names are str, and '__metadata__' is taken by the format")
        array = _as_array(name, value)
        if array.dtype.name not in BY_NAME:
            known = ", ".join(sorted(BY_NAME))
            raise InvalidUpdateError(f"tensor {name!r} has dtype {array.dtype}; supported: {known}")
        arrays[name] = array
    return arrays


def _as_array(name: str, value: Any) -> NDArray[Any]:
    # Who holds a tensor has imported torch, so there is no need to import it here.
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(value, torch.Tensor):
            return _from_torch(name, value)
        if hasattr(value, "__array__") and hasattr(value, "dtype"):
            return np.asarray(value)
    except InvalidUpdateError:
        raise
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as exc:
        raise InvalidUpdateError(f"tensor {name!r} cannot be read: {exc}") from exc
    raise InvalidUpdateError(f"tensor {name!r} is a {type(value).__name__}, not an array or a torch tensor")


def _from_torch(name: str, tensor: Any) -> NDArray[Any]:
    if tensor.is_meta:
        raise InvalidUpdateError(f"tensor {name!r} is on torch's meta device and has no data; load the model first")
    if str(tensor.layout) != "torch.strided" or tensor.is_quantized:
        raise InvalidUpdateError(f"tensor {name!r} is sparse or quantized; pass .to_dense() or .dequantize()")
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    dtype = str(tensor.dtype).removeprefix("torch.")
    is_narrow = dtype == "bfloat16" or dtype.startswith("float8")
    if is_narrow:
        torch = sys.modules["torch"]
        tensor = tensor.view(torch.int16 if tensor.element_size() == 2 else torch.uint8)
    array: NDArray[Any] = tensor.numpy()
    return array.view(BY_NAME[dtype][1]) if is_narrow and dtype in BY_NAME else array
