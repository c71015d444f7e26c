"""Parts of objects on their way into a function: piece by piece, so that a part is in memory once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from flstore import codec, parts
from flstore.errors import CapacityError, CorruptObjectError
from flstore.tensors import Bytes, aligned_empty, as_bytes, own_pages
from flstore.types import Cut, Key, Part

if TYPE_CHECKING:
    from flstore.persistence import ObjectStore

UNEVEN = 1.05
"""How much larger than its even share a part may be: tensors are not always shared out evenly."""
HEADER_BYTES = 1 << 16
"""Beside that, for the names of its tensors."""


class Arriving:
    """Buffers that are being filled, by whatever names them (the later load of an object replaces the earlier)."""

    def __init__(self) -> None:
        self._buffers: dict[Key, tuple[int, Bytes, int]] = {}
        self._lock = threading.Lock()

    def add(self, name: tuple[Key, int], at: int, total: int, piece: Any) -> Bytes | None:
        """Put a piece into its place; the buffer when it is complete.

        Raises
        ------
        CorruptObjectError
            The pieces before this one did not come, or belong to another load.
        """
        key, generation = name
        data = as_bytes(piece)
        with self._lock:
            if at == 0:
                self._buffers[key] = (generation, own_pages(total), 0)
            known, buffer, filled = self._buffers.get(key, (-1, aligned_empty(0), 0))
            if known != generation or filled != at or at + data.nbytes > buffer.nbytes:
                raise CorruptObjectError(f"{key}: a piece from byte {at} on, where {filled} bytes had arrived")
            buffer.data[at : at + data.nbytes] = data
            if at + data.nbytes < buffer.nbytes:
                self._buffers[key] = (generation, buffer, at + data.nbytes)
                return None
            del self._buffers[key]
            return buffer

    def clear(self) -> None:
        """Forget what has not arrived completely."""
        with self._lock:
            self._buffers.clear()


def part_of(values: Any) -> Part | None:
    """A part as it came with a message."""
    return None if values is None else Part(int(values[0]), int(values[1]), Cut(values[2]))


def part_values(part: Part | None) -> list[Any] | None:
    """A part as plain values."""
    return None if part is None else [part.number, part.of, str(part.cut)]


def take_part(key: Key, part: Part | None, buffer: Any, size_bytes: int) -> codec.ClientUpdate:
    """A part that arrived whole, verified; see :func:`read_stored_part`."""
    update = codec.decode(buffer, key=key, part=part)
    _check_size(update, size_bytes)
    return update


def read_stored_part(objects: ObjectStore, key: Key, part: Part, size_bytes: int) -> tuple[codec.ClientUpdate, int]:
    """One part of an object in the persistent store, and the bytes that had to be read for it.

    Raises
    ------
    CapacityError
        It takes more than the `size_bytes` that an even share of the object would.
    """
    count = 0

    def read(start: int, size: int) -> Any:
        nonlocal count
        some = objects.get_range(key, start, size)
        count += as_bytes(some).nbytes
        return some

    update = parts.read_part(read, key, part)
    _check_size(update, size_bytes)
    return update, count


def _check_size(update: codec.ClientUpdate, size_bytes: int) -> None:
    uneven = update.part is not None and update.part.cut is Cut.TENSORS
    if uneven and update.size_bytes > UNEVEN * size_bytes + HEADER_BYTES:
        raise CapacityError(
            f"{update.part} of the {update.key} has {update.size_bytes} bytes where an even share has {size_bytes}: "
            f"its tensors cannot be shared out evenly; give the functions more memory (FLStore.local(memory=...))"
        )
