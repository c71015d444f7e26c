"""Parts of objects: cut from whole ones, read from the persistent store without the rest, put together again.

A part is an object of the codec like any other, with a checksum of its own; its header says which part it is, so it is
never taken for the whole. The same object, cut the same way, gives the same parts on every machine.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from flstore import codec, tensors
from flstore.errors import CorruptObjectError
from flstore.tensors import Buffer
from flstore.types import Cut, Key, Part

PIECE_BYTES = 16 << 20
"""How much of an object is read, or sent, at once: what a function needs beside the part itself."""
TOLERANCE = 0.025
"""How far from an even share a cut may lie for the sake of whole layers, as a share of a part."""


def part_bytes(size_bytes: int, part: Part) -> int:
    """Bytes that a part of an object counts for."""
    return -(-size_bytes // part.of)


def contains(held: Part | None, part: Part) -> bool:
    """Whether `part` can be cut from what is held: from the whole object, or from a range that it lies in."""
    if held is None or held == part:
        return True
    fits = held.cut is Cut.RANGES and part.cut is Cut.RANGES and part.of % held.of == 0
    return fits and part.number * held.of // part.of == held.number


def cut(update: codec.ClientUpdate, part: Part) -> memoryview:
    """One part of an object, encoded; from the whole object or, see :func:`contains`, from a larger part of it.

    Examples
    --------
    >>> import numpy as np
    >>> from flstore.types import Kind
    >>> key = Key("demo", Kind.UPDATE, 3, "7")
    >>> whole = codec.decode(codec.encode(key, {"w": np.arange(5.0), "b": np.ones((2, 2))}))
    >>> halves = [codec.decode(cut(whole, Part(i, 2))) for i in range(2)]
    >>> [half["w"].tolist() for half in halves]
    [[0.0, 1.0], [2.0, 3.0, 4.0]]
    >>> join(key, halves) == whole
    True
    """
    if part.cut is Cut.TENSORS:
        sizes = {name: array.nbytes for name, array in update.items()}
        return codec.encode(update.key, {name: update[name] for name in names_of(sizes, part)}, part=part)
    held = update.part or Part(0, 1)
    shapes = update.shapes or {name: list(array.shape) for name, array in update.items()}
    pieces = {}
    for name, shape in shapes.items():
        (begin, end), (start, _) = _range(math.prod(shape), part), _range(math.prod(shape), held)
        pieces[name] = update[name].reshape(-1)[begin - start : end - start]
    return codec.encode(update.key, pieces, part=part, shapes=shapes)


def cut_buffer(buffer: Buffer, part: Part) -> memoryview:
    """The same from the bytes of an object of our own, which are not verified."""
    return cut(codec.decode(buffer, verify=False), part)


def join(key: Key, parts: Sequence[codec.ClientUpdate]) -> codec.ClientUpdate:
    """All parts of an object, in order, as the whole object; its bytes are those that were cut.

    Raises
    ------
    CorruptObjectError
        They are not all the parts of one object, in order.
    """
    first = parts[0].part
    if first is None or [p.part for p in parts] != [Part(i, first.of, first.cut) for i in range(first.of)]:
        raise CorruptObjectError(f"{key}: these are not its parts, in order: {[p.part for p in parts]}")
    if first.cut is Cut.TENSORS:
        return codec.decode(codec.encode(key, {name: t for p in parts for name, t in p.items()}), verify=False)
    shapes = {name: tuple(parts[0].shapes[name]) for name in parts[0]}
    tags = {name: tensors.BY_NAME[parts[0][name].dtype.name][0] for name in parts[0]}
    blank = codec.Blank(key, {name: (tags[name], shapes[name]) for name in shapes})
    for p in parts:
        for name, field in blank.fields.items():
            begin, end = _range(math.prod(shapes[name]), p.part or first)
            if end > begin:
                blank.data[field.begin : field.end].view(field.dtype)[begin:end] = p[name]
    return codec.decode(blank.seal(), verify=False)


def read_part(read: Callable[[int, int], Buffer], key: Key, part: Part) -> codec.ClientUpdate:
    """One part of an object that is stored whole.

    All of the object is read, piece by piece, because only all of it can be compared with its checksum; but only the
    part and one piece are in memory.

    Parameters
    ----------
    read : callable
        ``read(start, size)`` gives that range of the object's bytes.
    key : Key
        The object.
    part : Part
        The part.

    Raises
    ------
    CorruptObjectError
        Truncated, altered, or another object.
    """
    header = codec.Header(read, key)
    blank, wanted = _blank(header, key, part)
    at = header.start
    while at < header.end:
        piece = tensors.as_bytes(read(at, min(PIECE_BYTES, header.end - at)))
        if not piece.nbytes:
            raise CorruptObjectError(f"{key}: {at} bytes, but its header describes {header.end}")
        header.add(piece)
        for begin, end, to in _within(wanted, at - header.start, piece.nbytes):
            source = begin - (at - header.start)
            blank.data.data[to : to + end - begin] = piece[source : source + end - begin]
        at += piece.nbytes
    header.verify()
    return codec.decode(blank.seal(), verify=False, key=key, part=part)


def names_of(sizes: Mapping[str, int], part: Part) -> list[str]:
    """The tensors of a part of whole tensors: a run of them, cut where the first component of the name changes.

    Where that would leave the parts too uneven, the cut lies between any two tensors.
    """
    names = list(sizes)
    ends = list(itertools.accumulate(sizes.values()))
    layers = [i + 1 for i in range(len(names) - 1) if _layer(names[i]) != _layer(names[i + 1])]
    share = ends[-1] / part.of

    def nearest(candidates: Sequence[int], target: float) -> int | None:
        return min(candidates, key=lambda i: (abs(ends[i - 1] - target), i), default=None)

    cuts = [0]
    for number in range(1, part.of):
        target = number * share
        chosen = nearest([i for i in layers if i >= cuts[-1]], target)
        if chosen is None or abs(ends[chosen - 1] - target) > TOLERANCE * share:
            chosen = nearest(range(max(1, cuts[-1]), len(names)), target)
        cuts.append(len(names) if chosen is None else chosen)
    cuts.append(len(names))
    return names[cuts[part.number] : cuts[part.number + 1]]


def pieces(buffer: memoryview) -> Iterator[tuple[int, memoryview]]:
    """A buffer as (offset, piece)."""
    for at in range(0, buffer.nbytes, PIECE_BYTES):
        yield at, buffer[at : at + PIECE_BYTES]


def _layer(name: str) -> str:
    return name.split(".", 1)[0]


def _range(elements: int, part: Part) -> tuple[int, int]:
    return part.number * elements // part.of, (part.number + 1) * elements // part.of


def _blank(header: codec.Header, key: Key, part: Part) -> tuple[codec.Blank, list[tuple[int, int, int]]]:
    """The part without its values, and where they are: (begin, end) in the data of the object, begin in the part's."""
    fields = header.fields
    if part.cut is Cut.TENSORS:
        mine = names_of({name: f.end - f.begin for name, f in fields.items()}, part)
        blank = codec.Blank(key, {name: (fields[name].tag, fields[name].shape) for name in mine}, part)
        found = [(fields[n].begin, fields[n].end, blank.fields[n].begin) for n in mine]
    else:
        ranges = {name: _range(math.prod(f.shape), part) for name, f in fields.items()}
        flat = {name: (f.tag, (ranges[name][1] - ranges[name][0],)) for name, f in fields.items()}
        blank = codec.Blank(key, flat, part, {name: f.shape for name, f in fields.items()})
        found = []
        for name, f in fields.items():
            begin, end = (f.begin + i * f.dtype.itemsize for i in ranges[name])
            found.append((begin, end, blank.fields[name].begin))
    return blank, sorted(extent for extent in found if extent[1] > extent[0])


def _within(wanted: list[tuple[int, int, int]], at: int, size: int) -> Iterator[tuple[int, int, int]]:
    """The extents, or pieces of them, that lie in ``[at, at + size)``."""
    first = bisect.bisect_right(wanted, at, key=lambda extent: extent[1])
    for begin, end, to in itertools.islice(wanted, first, None):
        if begin >= at + size:
            return
        inner = max(begin, at)
        yield inner, min(end, at + size), to + inner - begin
