"""Where each tensor of an object lies: known from names, dtypes and shapes, before any number is read."""

from __future__ import annotations

import functools
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xxhash
from numpy.typing import DTypeLike, NDArray

from flstore.errors import InvalidUpdateError
from flstore.tensors import ALIGNMENT, BY_NAME, DTYPES, Bytes, aligned_empty, as_arrays
from flstore.types import Key, Kind

FORMAT = "flstore-1"
PREFIX = b'{"__metadata__":{"checksum":"'
DIGITS = slice(8 + len(PREFIX), 8 + len(PREFIX) + 32)
"""Where the checksum of an object stands."""


BY_TAG = {tag: dtype.name for tag, dtype in DTYPES.items()}
"""NumPy's name of each dtype, which NumPy itself composes anew each time."""


class Field(NamedTuple):
    """One tensor of an object; `begin` and `end` count from the start of the data."""

    tag: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, eq=False)
class Layout:
    """An object that was checked and laid out, and not copied yet.

    Attributes
    ----------
    key : Key
        The object's name.
    arrays : dict of str to ndarray
        The caller's own memory, where it is on this machine's processor.
    fields : dict of str to Field
        Where each tensor goes.
    header : bytes
        What comes before the data, with zeros for the checksum.
    size_bytes : int
        Bytes of the whole object.
    """

    key: Key
    arrays: dict[str, NDArray[Any]]
    fields: dict[str, Field]
    header: bytes
    size_bytes: int

    @classmethod
    def of(cls, key: Key, tensors: Mapping[str, Any], part: list[Any] | None = None) -> Layout:
        """Check tensors and say where they go; raises as :func:`flstore.codec.encode` does. `part`: see header."""
        arrays = as_arrays(tensors)
        fields, size = place({name: (BY_NAME[a.dtype.name][0], a.shape) for name, a in arrays.items()})
        head = header(key, fields, part)
        return cls(key, arrays, fields, head, len(head) + size)

    @property
    def signature(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """As of a :class:`flstore.codec.ClientUpdate`."""
        return tuple(sorted((name, BY_TAG[f.tag], f.shape) for name, f in self.fields.items()))

    def encode(self) -> memoryview:
        """Copy the tensors into one buffer: read-only, on an allocation aligned to 64 bytes."""
        buffer = aligned_empty(self.size_bytes)
        buffer[: len(self.header)] = np.frombuffer(self.header, np.uint8)
        data = buffer[len(self.header) :]
        digest = xxhash.xxh3_128(self.header)
        for name, field in sorted(self.fields.items(), key=lambda item: item[1].begin):
            if field.end > field.begin:
                part = data[field.begin : field.end]
                np.copyto(part.view(field.dtype).reshape(field.shape), self.arrays[name])
                digest.update(part.data)  # while the processor still has it at hand
        buffer[DIGITS] = np.frombuffer(digest.hexdigest().encode(), np.uint8)
        return buffer.data.toreadonly()


def place(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> tuple[dict[str, Field], int]:
    """Offsets of tensors given as (tag, shape), in their own order, and the size of all.

    Whole multiples of 64 bytes come first, so that nearly all bytes start at such a place; wide items before narrow, so
    that the rest is aligned to its items; equal dtypes side by side, so that each is at most two runs. The fields are
    shared by all updates of an architecture, and not to be changed.
    """
    return _place(tuple((name, *described) for name, described in tensors.items()))


def runs(data: Bytes, fields: Mapping[str, Field], dtype: DTypeLike) -> list[NDArray[Any]]:
    """Flat views, at most two, that together hold every value of the tensors of `dtype`; `data` has no header."""
    wanted = np.dtype(dtype)
    extents = sorted((f.begin, f.end) for f in fields.values() if f.dtype == wanted and f.end > f.begin)
    merged: list[list[int]] = []
    for begin, end in extents:
        if merged and merged[-1][1] == begin:
            merged[-1][1] = end
        else:
            merged.append([begin, end])
    return [data[begin:end].view(wanted) for begin, end in merged]


@functools.lru_cache(maxsize=32)
def _place(described: tuple[tuple[str, str, tuple[int, ...]], ...]) -> tuple[dict[str, Field], int]:
    tensors = {name: (tag, shape) for name, tag, shape in described}
    sizes = {name: DTYPES[tag].itemsize * math.prod(shape) for name, (tag, shape) in tensors.items()}

    def rank(name: str) -> tuple[bool, int, str, str]:
        tag = tensors[name][0]
        return sizes[name] % ALIGNMENT != 0, -DTYPES[tag].itemsize, tag, name

    begin: dict[str, int] = {}
    at = 0
    for name in sorted(tensors, key=rank):
        begin[name] = at
        at += sizes[name]
    return {n: Field(t, DTYPES[t], s, begin[n], begin[n] + sizes[n]) for n, (t, s) in tensors.items()}, at


def header(key: Key, fields: Mapping[str, Field], part: list[Any] | None = None) -> bytes:
    """What comes before the data, with zeros for the checksum; of a part of an object also which part, as JSON."""
    if key.kind is Kind.METADATA or (key.kind is Kind.UPDATE) != (key.client is not None):
        raise InvalidUpdateError(f"no tensors can be stored as {key!r}: an UPDATE has a client, an AGGREGATE none")
    meta = {"checksum": "0" * 32, "format": FORMAT, "job": key.job, "kind": key.kind.name.lower()}
    meta["round"] = str(operator.index(key.round))
    if key.client is not None:
        meta["client"] = key.client
    if part is not None:
        meta["part"] = json.dumps(part)
    entries: dict[str, Any] = {"__metadata__": meta}
    for name, f in fields.items():
        entries[name] = {"dtype": f.tag, "shape": f.shape, "data_offsets": (f.begin, f.end)}
    try:
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as exc:
        raise InvalidUpdateError(f"a name of {key!r} is not valid Unicode: {exc}") from exc
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
