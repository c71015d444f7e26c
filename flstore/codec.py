"""A client update as one safetensors buffer, and back, without a copy.

The bytes are a pure function of the key and the tensors, so an equal checksum means an equal update. Any safetensors
reader opens them; three things are ours and allowed by the format. The header is padded with spaces, so that the data
starts at a multiple of 64. The tensors lie in an order of their own (:func:`place`), while the JSON keeps the
sender's. The first entry of ``__metadata__`` is an xxh3-128 checksum at a fixed place, over the whole object with its
own digits read as zeros.
"""

# Longer than 300 lines because the format, its reader and its writer are one thing.

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xxhash
from numpy.typing import DTypeLike, NDArray

from flstore.errors import CorruptObjectError
from flstore.tensor_layout import DIGITS, FORMAT, PREFIX, Field, Layout, header, place, runs
from flstore.tensors import ALIGNMENT as ALIGNMENT
from flstore.tensors import DTYPES, Bytes, as_bytes
from flstore.tensors import Buffer as Buffer
from flstore.tensors import aligned_copy as aligned_copy
from flstore.tensors import aligned_empty as aligned_empty
from flstore.tensors import nonfinite as nonfinite
from flstore.types import Cut, Key, Kind, Part

MOST_HEADER_BYTES = 100_000_000
"""safetensors readers refuse longer headers."""
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
    part : Part or None
        Which part of the object this is (``flstore.parts``); None for a whole one.
    shapes : dict of str to list of int
        Of the tensors of the whole object, where this is a part that was cut by ranges.
    """

    __slots__ = ("_base", "_data", "_fields", "_signature", "checksum", "key", "part", "shapes")

    def __init__(
        self, key: Key, checksum: str, base: Bytes, fields: dict[str, Field], start: int, of: Any = None
    ) -> None:
        self.key = key
        self.part: Part | None = None if of is None else Part(of[0], of[1], Cut(of[2]))
        self.shapes: dict[str, list[int]] = {} if of is None else of[3]
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
        return runs(self._data, self._fields, dtype)

    def shared_runs(self, other: ClientUpdate) -> Iterator[tuple[str, str]]:
        """First and last name of stretches of tensors that lie side by side here and in `other`, for :meth:`stretch`.

        Of the tensors that both have, in the order of their places here; within a stretch each side has one dtype, and
        tensors without a value are in none.
        """
        last = began = ""
        for name, field in sorted(self._fields.items(), key=lambda item: item[1].begin):
            if name not in other or field.begin == field.end:
                continue
            if last and not (self._follows(last, name) and other._follows(last, name)):
                yield began, last
                began = name
            began, last = began or name, name
        if last:
            yield began, last

    def stretch(self, first: str, last: str) -> NDArray[Any]:
        """Flat view of the tensors from `first` to `last`, which lie side by side and have one dtype."""
        field = self._fields[first]
        return self._data[field.begin : self._fields[last].end].view(field.dtype)

    def _follows(self, before: str, name: str) -> bool:
        return (
            self._fields[before].end == self._fields[name].begin and self._fields[before].tag == self._fields[name].tag
        )

    def __repr__(self) -> str:
        count = f"{len(self)} tensor{'s' * (len(self) != 1)}"
        return f"<ClientUpdate {self.key}: {count}, {self.size_bytes / 1e6:.1f} MB, {', '.join(self.dtypes)}>"


def encode(
    key: Key, tensors: Mapping[str, Any], *, part: Part | None = None, shapes: Mapping[str, Any] | None = None
) -> memoryview:
    """Lay tensors out as one safetensors buffer.

    Parameters
    ----------
    key : Key
        Name of the object; part of its bytes. An UPDATE has a client, an AGGREGATE has none.
    tensors : mapping of str to ndarray or torch.Tensor
        Any strides, any byte order, any device; each is copied once. The dtypes of safetensors of whole bytes.
    part : Part, optional
        The tensors are this part of the object only.
    shapes : mapping of str to shape, optional
        With `part`: the tensors are ranges of tensors of these shapes.

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
    of = None if part is None else [*part, dict(shapes or {})]
    return Layout.of(key, tensors, of).encode()


class Blank:
    """An object whose values are still to come: write them into `data`, where `fields` says, then seal it."""

    def __init__(
        self, key: Key, tensors: Mapping[str, tuple[str, tuple[int, ...]]], part: Part | None = None,
        shapes: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.fields, size = place(tensors)
        head = header(key, self.fields, None if part is None else [*part, dict(shapes or {})])
        self._buffer = aligned_empty(len(head) + size)
        self._buffer[: len(head)] = np.frombuffer(head, np.uint8)
        self.data = self._buffer[len(head) :]

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Views of the values by name, in the order of the tensors given."""
        return {n: self.data[f.begin : f.end].view(f.dtype).reshape(f.shape) for n, f in self.fields.items()}

    def runs(self, dtype: DTypeLike) -> list[NDArray[Any]]:
        """Flat views as those of :meth:`ClientUpdate.runs`: the same values lie at the same places."""
        return runs(self.data, self.fields, dtype)

    def seal(self) -> memoryview:
        """Note the checksum; the whole object, read-only."""
        digits = xxhash.xxh3_128_hexdigest(self._buffer.data).encode()
        self._buffer[DIGITS] = np.frombuffer(digits, np.uint8)
        return self._buffer.data.toreadonly()


class Header:
    """The beginning of an object that arrives piece by piece, and the checksum over all of it.

    Parameters
    ----------
    read : callable
        ``read(start, size)`` gives that range of the object's bytes.
    key : Key
        The name that the object must have.

    Raises
    ------
    CorruptObjectError
        Not an object of ours, or another one.
    """

    def __init__(self, read: Callable[[int, int], Buffer], key: Key) -> None:
        try:
            length = int.from_bytes(bytes(as_bytes(read(0, 8))), "little")
            if length > MOST_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            view = as_bytes(read(0, 8 + length)).toreadonly()
            found, self.fields, self.start, size, of = _parse(view)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
            raise CorruptObjectError(f"{key}: damaged header: {exc}") from exc
        if found != key or of is not None:
            raise CorruptObjectError(f"{key}: the object holds the {found}{'' if of is None else ', in part,'} instead")
        self.end = self.start + size
        self._what = f"{key}: its {self.end} bytes"
        self.checksum = bytes(view[DIGITS]).decode()
        self._digest = xxhash.xxh3_128(bytes(view[: DIGITS.start]) + b"0" * 32)
        self._digest.update(view[DIGITS.stop :])

    def add(self, piece: Buffer) -> None:
        """Take the next bytes after the header into the checksum."""
        self._digest.update(as_bytes(piece))

    def verify(self) -> None:
        """Raise CorruptObjectError unless all pieces together match the checksum."""
        if self._digest.hexdigest() != self.checksum:
            raise CorruptObjectError(f"{self._what} do not match their checksum {self.checksum}")


def decode(buffer: Buffer, *, verify: bool = True, key: Key | None = None, part: Part | None = None) -> ClientUpdate:
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
    part : Part, optional
        With `key`: which part of that object it must be.

    Raises
    ------
    CorruptObjectError
        Truncated, altered, not written by this codec, or another object than `key`, or another part of it.
    """
    view = as_bytes(buffer).toreadonly()
    what = "object" if key is None else str(key)
    try:
        found, fields, start, size, of = _parse(view)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise CorruptObjectError(f"{what}: damaged header in {view.nbytes} bytes: {exc}") from exc
    if start + size != view.nbytes:
        raise CorruptObjectError(f"{what}: {view.nbytes} bytes, but its header describes {start + size}")
    checksum = bytes(view[DIGITS]).decode()
    if verify and _digest(view) != checksum:
        raise CorruptObjectError(f"{what}: its {view.nbytes} bytes do not match their checksum {checksum}")
    if key is not None and found != key:
        raise CorruptObjectError(f"{what}: the object holds the {found} instead")
    update = ClientUpdate(found, checksum, np.frombuffer(view, np.uint8), fields, start, of)
    if key is not None and update.part != part:
        raise CorruptObjectError(f"{what}: the object holds part {update.part} instead of {part}")
    return update


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


def _parse(view: memoryview) -> tuple[Key, dict[str, Field], int, int, Any]:
    """Key, fields, start and size of the data, and what part it is (None: whole).

    ValueError and its like for all that :func:`encode` never writes.
    """
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
    return key, fields, 8 + length, size, json.loads(meta["part"]) if "part" in meta else None


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
