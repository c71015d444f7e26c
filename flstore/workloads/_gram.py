"""Inner products of client updates: one pass over the data, and all that follows from them.

Cosine similarities, distances, Krum scores, k-means and multidimensional scaling need inner products only. For ten
clients the matrix of them has a hundred numbers, and the pass that makes it is as good as the whole cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.codec import ClientUpdate, aligned_empty
from flstore.errors import InvalidUpdateError
from flstore.tensors import nonfinite
from flstore.workloads._stages import available_cores

Matrix = NDArray[np.float64]

# Up to here pairwise dot products on the views themselves beat copying them together and one matrix product: 0.06 s
# against 0.14 s for ten clients of 11.7 M float32, even at 16, slower from there on.
_FEW = 16
# A dot product uses one core, so a few threads share the chunks of few updates. The chunks are long, because between
# two products a thread waits for the interpreter: 0.035 s with two threads, 0.048 s with chunks of half the length.
_CHUNK_OF_FEW = 1 << 18
_MOST_THREADS = 4
_SQUARED = ("float32", "float64", "complex64")
# A matrix product uses all cores by itself.
_LARGEST_CHUNK = 1 << 17
_SMALLEST_CHUNK = 1 << 13
_CHUNK_ELEMENTS = 1 << 21


def gram(updates: Sequence[ClientUpdate], reference: ClientUpdate | None = None) -> Matrix:
    """Inner products of all pairs of updates, each seen as one long vector.

    Products are taken in float32 by chunk (in float64 where a tensor is float64, or where float32 would overflow)
    and summed in float64. bfloat16, float16 and float8 are widened first. Integer and bool tensors, such as the
    counters of BatchNorm, take no part.

    Parameters
    ----------
    updates : sequence of ClientUpdate, length n
        With equal signatures.
    reference : ClientUpdate, optional
        Subtracted from every update, chunk by chunk, before anything is multiplied. Its dtypes may differ from
        theirs (an averaged counter is a float), its names and shapes may not.

    Returns
    -------
    ndarray of float64, shape (n, n)
        Symmetric. NaN and infinities of an update are in its row and column, and only there.

    Raises
    ------
    InvalidUpdateError
        The updates, or the reference, have different tensors; or there is no floating-point tensor at all.

    Examples
    --------
    >>> from flstore.codec import decode, encode
    >>> from flstore.types import Key, Kind
    >>> rows = {"a": [1, 2], "b": [3, 4]}
    >>> gram([decode(encode(Key("job", Kind.UPDATE, 1, c), {"w": np.array(v, np.float32)})) for c, v in rows.items()])
    array([[ 5., 11.],
           [11., 25.]])
    """
    total = np.zeros((len(updates), len(updates)))
    if not updates:
        return total
    check_signatures(updates)
    for views, origin in _segments(updates, reference):
        add_products(total, views, origin)
    return total


def squared_distances(products: Matrix) -> Matrix:
    """Squared Euclidean distances from a Gram matrix; never negative, NaN where an update is not finite.

    Parameters
    ----------
    products : ndarray of float64, shape (n, n)

    Returns
    -------
    ndarray of float64, shape (n, n)
    """
    norms = products.diagonal()
    with np.errstate(invalid="ignore"):
        distances: Matrix = np.maximum(norms[:, None] + norms[None, :] - 2 * products, 0.0)
    return distances


def norms(products: Matrix) -> Matrix:
    """Euclidean norms from a Gram matrix, shape (n,)."""
    lengths: Matrix = np.sqrt(products.diagonal())
    return lengths


def cosine(products: Matrix) -> Matrix:
    """Cosine similarities from a Gram matrix, in [-1, 1]; 0 with a zero vector, NaN where an update is not finite.

    Parameters
    ----------
    products : ndarray of float64, shape (n, n)

    Returns
    -------
    ndarray of float64, shape (n, n)
    """
    lengths = norms(products)
    with np.errstate(all="ignore"):
        similarity = np.clip(products / np.outer(lengths, lengths), -1.0, 1.0)
    np.fill_diagonal(similarity, np.where(np.isfinite(lengths), 1.0, np.nan))
    zero = lengths == 0
    known = np.isfinite(lengths)
    similarity[np.outer(zero, known) | np.outer(known, zero)] = 0.0
    return similarity


def centred(products: Matrix) -> Matrix:
    """The Gram matrix of the same vectors minus their mean (double centring), shape (n, n)."""
    columns = products.mean(axis=0)
    inner: Matrix = products - columns[None, :] - columns[:, None] + columns.mean()
    return inner


def nonfinite_rows(products: Matrix) -> NDArray[np.bool_]:
    """Which updates have NaN or infinities (or are too large to be squared), shape (n,)."""
    return ~np.isfinite(products.diagonal())


def is_finite(update: Mapping[str, NDArray[Any]]) -> bool:
    """Whether an update is free of NaN and infinities, in one pass at the speed of memory."""
    if isinstance(update, ClientUpdate):
        lines = [flat(run) for dtype in _SQUARED for run in update.runs(dtype)]
        with np.errstate(over="ignore", invalid="ignore"):
            squares = [float(np.dot(line, line)) for line in lines]
        others = [dtype for dtype in update.dtypes if is_floating(dtype) and dtype not in _SQUARED]
        if not others and np.isfinite(squares).all():
            return True
    return not nonfinite(update)  # squares may have overflowed


def is_floating(dtype: str) -> bool:
    """Whether tensors of this dtype take part in inner products (a complex number as its two parts)."""
    return dtype.startswith(("float", "bfloat", "complex"))


def elements(update: ClientUpdate) -> int:
    """Length of an update as one vector."""
    count = {dtype: 2 if dtype == "complex64" else 1 for dtype in update.dtypes if is_floating(dtype)}
    return sum(count.get(dtype, 0) * math.prod(shape) for _, dtype, shape in update.signature)


def _comparable(one: str, other: str) -> bool:
    return is_floating(other) and one.startswith("complex") == other.startswith("complex")


def flat(tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    """A tensor of an update as one vector, without a copy."""
    line = tensor.reshape(-1)
    return line.view(np.float32) if line.dtype == np.complex64 else line


def check_signatures(updates: Sequence[ClientUpdate]) -> None:
    """Raise InvalidUpdateError unless all updates have the same tensors, and some of them can be compared."""
    check_architecture(updates)
    first = updates[0]
    if not any(is_floating(dtype) for dtype in first.dtypes):
        raise InvalidUpdateError(
            f"the {first.key} has no floating-point tensor to compare (dtypes: {', '.join(first.dtypes)}); "
            "integer and bool tensors take no part: dequantize updates before they are ingested"
        )


def check_architecture(updates: Sequence[ClientUpdate]) -> None:
    """Raise InvalidUpdateError, naming a client and a tensor, unless all updates have the same tensors."""
    first = updates[0]
    expected = first.signature
    for update in updates[1:]:
        if update.signature != expected:
            odd = min(set(update.signature) ^ set(expected))[0]
            raise InvalidUpdateError(
                f"the {update.key} and the {first.key} differ in tensor {odd!r}: {_describe(update, odd)} against "
                f"{_describe(first, odd)}; only updates of one architecture can be compared"
            )


def _describe(update: ClientUpdate, name: str) -> str:
    return f"{update[name].dtype.name}{list(update[name].shape)}" if name in update else "absent"


def _segments(
    updates: Sequence[ClientUpdate], reference: ClientUpdate | None
) -> Iterator[tuple[list[NDArray[np.generic]], NDArray[np.generic] | None]]:
    """Yield (a flat view of each update, one of the reference); together they hold every floating-point value once."""
    first = updates[0]
    if reference is None or reference.signature == first.signature:
        for dtype in filter(is_floating, first.dtypes):
            runs = [u.runs(dtype) for u in ((*updates, reference) if reference is not None else updates)]
            for pieces in zip(*runs, strict=True):
                views = [flat(piece) for piece in pieces]
                yield (views, None) if reference is None else (views[:-1], views[-1])
        return
    there = {name: (dtype, shape) for name, dtype, shape in reference.signature}
    for name, dtype, shape in first.signature:
        origin, size = there.get(name, ("", ()))
        if is_floating(dtype) and (size != shape or not _comparable(dtype, origin)):
            raise InvalidUpdateError(
                f"the {first.key} and the {reference.key} differ in tensor {name!r}: {_describe(first, name)} against "
                f"{_describe(reference, name)}, so there is no difference to take; of='model' compares whole weights"
            )
    # An average of counters is a float, so this is the usual case: a few stretches, and not hundreds of tensors.
    for begin, end in first.shared_runs(reference):
        if is_floating(first[begin].dtype.name):
            yield [flat(update.stretch(begin, end)) for update in updates], flat(reference.stretch(begin, end))


def add_products(total: Matrix, views: Sequence[NDArray[np.generic]], origin: NDArray[np.generic] | None) -> None:
    """Add the inner products of flat views, minus `origin`, to `total`; in the same order with any threads."""
    count, size = len(views), views[0].size
    few = count <= _FEW
    wide = views[0].dtype == np.float64 or (origin is not None and origin.dtype == np.float64)
    dtype = np.dtype(np.float64 if wide else np.float32)
    longest = _CHUNK_OF_FEW if few else max(_SMALLEST_CHUNK, min(_LARGEST_CHUNK, _CHUNK_ELEMENTS // count // 16 * 16))
    step = min(size, longest)
    chunks = range(0, size, step)
    threads = min(cores(), len(chunks)) if few else 1
    copied = not few or origin is not None or views[0].dtype != dtype
    buffers: SimpleQueue[NDArray[Any]] = SimpleQueue()
    for _ in range(threads):
        buffers.put(aligned_empty(count * step * dtype.itemsize if copied else 0).view(dtype).reshape(-1, step))

    def of_chunk(at: int) -> Matrix:
        buffer = buffers.get()
        try:
            start = None if origin is None else origin[at : at + step].astype(dtype, copy=False)
            with np.errstate(all="ignore"):  # here, because it holds for one thread only
                return _of_chunk([view[at : at + step] for view in views], start, buffer, wide)
        finally:
            buffers.put(buffer)

    if threads == 1:
        for at in chunks:
            total += of_chunk(at)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="flstore-gram") as pool:
        for products in pool.map(of_chunk, chunks):
            total += products


def _of_chunk(
    rows: list[NDArray[np.generic]], start: NDArray[np.generic] | None, buffer: NDArray[Any], wide: bool
) -> Matrix:
    """Inner products of rows minus `start`; a buffer without rows means that nothing needs to be copied."""
    block = buffer[:, : len(rows[0])]
    if len(block):
        for target, row in zip(block, rows, strict=True):
            if start is not None and row.dtype == target.dtype:
                np.subtract(row, start, out=target)
                continue
            np.copyto(target, row, casting="unsafe")
            if start is not None:
                target -= start
        rows = list(block)
    products = _products(rows) if len(rows) <= _FEW else (block @ block.T).astype(np.float64)
    bad = np.flatnonzero(nonfinite_rows(products))
    if not wide and any(np.isfinite(rows[i]).all() for i in bad):
        products = _products([row.astype(np.float64) for row in rows])
    return products


def cores() -> int:
    """How many threads may share the chunks of a pass over the updates."""
    return min(_MOST_THREADS, available_cores())


def _products(rows: Sequence[NDArray[np.generic]]) -> Matrix:
    products = np.empty((len(rows), len(rows)))
    for i, left in enumerate(rows):
        for j, right in enumerate(rows[: i + 1]):
            products[i, j] = products[j, i] = np.dot(left, right)
    return products
