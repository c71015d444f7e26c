"""A client update as one safetensors buffer, and back, without a copy.

The bytes are a pure function of the key and the tensors, so an equal checksum means an equal update. Any safetensors
reader opens them; three things are ours and allowed by the format. The header is padded with spaces, so that the data
starts at a multiple of 64. The tensors lie in an order of their own (:func:`place`), while the JSON keeps the
sender's. The first entry of ``__metadata__`` is an xxh3-128 checksum at a fixed place, over the whole object with its
own digits read as zeros.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xxhash
from numpy.typing import DTypeLike, NDArray

from flstore.errors import CorruptObjectError
from flstore.tensor_layout import DIGITS, FORMAT, PREFIX, Field, Layout, place
from flstore.tensors import ALIGNMENT as ALIGNMENT
from flstore.tensors import DTYPES, Bytes, as_bytes
from flstore.tensors import Buffer as Buffer
from flstore.tensors import aligned_copy as aligned_copy
from flstore.tensors import aligned_empty as aligned_empty
from flstore.tensors import nonfinite as nonfinite
from flstore.types import Key, Kind

CHECKSUM_PREFIX_BYTES = DIGITS.stop
"""How much of an object :func:`checksum_of` needs."""


class ClientUpdate(Mapping[str, NDArray[Any]]):
    """The tensors of one object: read-only NumPy views in the sender's order, by name. Made by :func:`decode`.

    Attributes
    ----------
    key : Key
        The object's name.
    checksum : str
        xxh3-128, 32 hexadecimal digits. Two updates are equal exactly when their checksums are.
    size_bytes : int
        Bytes of the whole object, header included.
    """

    __slots__ = ("_base", "_data", "_fields", "_signature", "checksum", "key")

    def __init__(self, key: Key, checksum: str, base: Bytes, fields: dict[str, Field], start: int) -> None:
        self.key = key
        self.checksum = checksum
        self._base = base
        self._data = base[start:]
        self._fields = fields
        self._signature: tuple[tuple[str, str, tuple[int, ...]], ...] | None = None

    def __getitem__(self, name: str) -> NDArray[Any]:
        field = self._fields[name]
        return self._data[field.begin : field.end].view(field.dtype).reshape(field.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __eq__(self, other: object) -> bool:
        return self.checksum == other.checksum if isinstance(other, ClientUpdate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.checksum)

    @property
    def size_bytes(self) -> int:
        return self._base.nbytes

    @property
    def buffer(self) -> memoryview:
        """The whole object, read-only, no copy."""
        return self._base.data

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Names of the dtypes that occur (``"float32"``, ``"bfloat16"``, ...), sorted."""
        return tuple(sorted({field.dtype.name for field in self._fields.values()}))

    @property
    def signature(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """(name, dtype, shape) of every tensor, sorted by name; equal for clients with the same architecture."""
        if self._signature is None:
            # NumPy composes the name of a dtype anew each time, and every comparison of updates asks for hundreds.
            self._signature = tuple(sorted((name, f.dtype.name, f.shape) for name, f in self._fields.items()))
        return self._signature

    def runs(self, dtype: DTypeLike = "float32") -> list[NDArray[Any]]:
        """Flat views, at most two, that together hold every value of the tensors of `dtype`.

        Updates with an equal `signature` have the same values at the same places of their runs.

        Returns
        -------
        list of ndarray, each 1-D
            Empty when no tensor has this dtype.
        """
        wanted = np.dtype(dtype)
        extents = sorted((f.begin, f.end) for f in self._fields.values() if f.dtype == wanted and f.end > f.begin)
        merged: list[list[int]] = []
        for begin, end in extents:
            if merged and merged[-1][1] == begin:
                merged[-1][1] = end
            else:
                merged.append([begin, end])
        return [self._data[begin:end].view(wanted) for begin, end in merged]

    def __repr__(self) -> str:
        count = f"{len(self)} tensor{'s' * (len(self) != 1)}"
        return f"<ClientUpdate {self.key}: {count}, {self.size_bytes / 1e6:.1f} MB, {', '.join(self.dtypes)}>"


def encode(key: Key, tensors: Mapping[str, Any]) -> memoryview:
    """Lay tensors out as one safetensors buffer.

    Parameters
    ----------
    key : Key
        Name of the object; part of its bytes. An UPDATE has a client, an AGGREGATE has none.
    tensors : mapping of str to ndarray or torch.Tensor
        Any strides, any byte order, any device; each is copied once. The dtypes of safetensors of whole bytes.

    Returns
    -------
    memoryview
        Read-only, on an allocation aligned to 64 bytes.

    Raises
    ------
    InvalidUpdateError
        Not a mapping, no tensors, a name or a dtype that safetensors cannot hold, a tensor without data.

    Examples
    --------
    >>> update = decode(encode(Key("demo", Kind.UPDATE, 3, "7"), {"w": np.ones((2, 3), np.float32)}))
    >>> update["w"].shape, update.dtypes
    ((2, 3), ('float32',))
    """
    return Layout.of(key, tensors).encode()


def decode(buffer: Buffer, *, verify: bool = True, key: Key | None = None) -> ClientUpdate:
    """Read an object of ours; its tensors are views into `buffer`, which must not change afterwards.

    Views are as aligned as the buffer is: pass what arrived from elsewhere through :func:`aligned_copy` first.

    Parameters
    ----------
    buffer : bytes-like
        The whole object.
    verify : bool
        Compare the checksum (one pass over the bytes). Size and layout are always checked.
    key : Key, optional
        The name that the object must have.

    Raises
    ------
    CorruptObjectError
        Truncated, altered, not written by this codec, or another object than `key`.
    """
    view = as_bytes(buffer).toreadonly()
    what = "object" if key is None else str(key)
    try:
        found, fields, start, size = _parse(view)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise CorruptObjectError(f"{what}: damaged header in {view.nbytes} bytes: {exc}") from exc
    if start + size != view.nbytes:
        raise CorruptObjectError(f"{what}: {view.nbytes} bytes, but its header describes {start + size}")
    checksum = bytes(view[DIGITS]).decode()
    if verify and _digest(view) != checksum:
        raise CorruptObjectError(f"{what}: its {view.nbytes} bytes do not match their checksum {checksum}")
    if key is not None and found != key:
        raise CorruptObjectError(f"{what}: the object holds the {found} instead")
    return ClientUpdate(found, checksum, np.frombuffer(view, np.uint8), fields, start)


def checksum_of(buffer: Buffer) -> str:
    """The checksum that an object claims, from its first ``CHECKSUM_PREFIX_BYTES``; nothing is verified.

    Raises
    ------
    CorruptObjectError
        Too short, or not written by this codec.
    """
    head = bytes(as_bytes(buffer)[:CHECKSUM_PREFIX_BYTES])
    digits = head[DIGITS]
    if head[8 : DIGITS.start] != PREFIX or len(digits) != 32 or not set(digits) <= set(b"0123456789abcdef"):
        raise CorruptObjectError(f"not an object of this store: its first {len(head)} bytes hold no checksum")
    return digits.decode()


def _parse(view: memoryview) -> tuple[Key, dict[str, Field], int, int]:
    """Key, fields, start and size of the data; ValueError and its like for all that :func:`encode` never writes."""
    if view[8 : DIGITS.start] != PREFIX:
        raise ValueError("it was not written by FLStore")
    length = int.from_bytes(view[:8], "little")
    if 8 + length > view.nbytes or (8 + length) % ALIGNMENT:
        raise ValueError(f"a header of {length} bytes")
    entries = json.loads(bytes(view[8 : 8 + length]))
    meta = entries.pop("__metadata__")
    if meta["format"] != FORMAT:
        raise ValueError(f"format {meta['format']!r} is unknown, this version reads {FORMAT!r}")
    if not isinstance(meta["job"], str) or not isinstance(meta.get("client", ""), str):
        raise ValueError("an id that is not a string")
    key = Key(meta["job"], Kind[meta["kind"].upper()], int(meta["round"]), meta.get("client"))
    fields, size = place({name: _shape(entry) for name, entry in entries.items()})
    # The layout follows from names, dtypes and shapes, so one comparison rules out holes, overlaps and wrong sizes.
    for name, entry in entries.items():
        if entry["data_offsets"] != [fields[name].begin, fields[name].end]:
            raise ValueError(f"tensor {name!r} is not where it belongs")
    return key, fields, 8 + length, size


def _shape(entry: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    tag, shape = entry["dtype"], tuple(entry["shape"])
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 64:
        raise ValueError(f"shape {shape}")
    if math.prod(max(n, 1) for n in shape) * DTYPES[tag].itemsize > sys.maxsize:
        raise ValueError(f"shape {shape} is too large")
    return tag, shape


def _digest(view: memoryview) -> str:
    digest = xxhash.xxh3_128(bytes(view[: DIGITS.start]) + b"0" * 32)
    digest.update(view[DIGITS.stop :])
    return digest.hexdigest()
