"""One model from many: every element by itself, chunk by chunk, so that no second copy of the updates is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.codec import Blank, ClientUpdate
from flstore.errors import InvalidUpdateError
from flstore.tensors import BY_NAME
from flstore.types import Key, Kind
from flstore.workloads._gram import check_architecture, cores, flat, is_floating

Rows = Sequence[NDArray[Any]]
Rule = Callable[[Rows], NDArray[np.float64]]
"""From chunks of several updates, float32 or float64, the chunk of one; must leave them as they are."""

# Long enough that two threads rarely meet at the interpreter's lock; short enough for a core's cache.
_CHUNK = 1 << 17


def combine(updates: Sequence[ClientUpdate], rule_for: Callable[[list[int]], Rule]) -> tuple[Blank, list[int]]:
    """Combine updates element by element.

    Floating-point tensors of up to 32 bits are given to the rule as float32, float64 as such, integers and bools as
    their exact differences from the first update, in float64; what comes back is rounded to the tensor's own dtype
    (integers to the nearest). A complex number counts as its two parts.

    Parameters
    ----------
    updates : sequence of ClientUpdate
        With equal signatures.
    rule_for : callable
        Gives the rule for some of the updates, named by their indices.

    Returns
    -------
    (Blank, list of int)
        The values, and the indices of updates with NaN or infinities, which have no part in them.

    Raises
    ------
    InvalidUpdateError
        The updates have different tensors, or none of them is finite.
    """
    check_architecture(updates)
    first = updates[0]
    key = Key(first.key.job, Kind.AGGREGATE, first.key.round)
    blank = Blank(key, {name: (BY_NAME[dtype][0], shape) for name, dtype, shape in _in_order(first)})
    kept = list(range(len(updates)))
    bad = _pass([updates[i] for i in kept], blank, rule_for(kept))
    if bad:
        kept = [i for i in kept if i not in bad]
        if not kept:
            raise InvalidUpdateError(
                f"every update of round {first.key.round} has NaN or infinities (clients "
                f"{', '.join(str(update.key.client) for update in updates[:20])}), so there is nothing to aggregate"
            )
        _pass([updates[i] for i in kept], blank, rule_for(kept))
    return blank, sorted(bad)


def weighted_mean(updates: Sequence[ClientUpdate], weights: Sequence[float]) -> dict[str, NDArray[Any]]:
    """The model whose tensors are means of those of finite updates with these weights, whose sum is one."""
    shares = np.asarray(weights, dtype=np.float64)
    return combine(updates, lambda kept: weighted(shares[kept]))[0].tensors()


def weighted(weights: NDArray[np.float64]) -> Rule:
    """The mean with these weights, whose sum is one."""

    def rule(rows: Rows) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.multiply(rows[0], weights[0], dtype=np.float64)
        term = np.empty_like(total)
        for row, weight in zip(rows[1:], weights[1:], strict=True):
            np.multiply(row, weight, out=term)
            total += term
        return total

    return rule


def middle(cut: int) -> Rule:
    """The mean of what is left of the sorted values without the `cut` smallest and the `cut` largest."""

    def rule(rows: Rows) -> NDArray[np.float64]:
        ordered = [row.copy() for row in rows]
        spare = np.empty_like(rows[0])
        for low, high in exchanges(len(rows)):
            np.minimum(ordered[low], ordered[high], out=spare)
            np.maximum(ordered[low], ordered[high], out=ordered[high])
            ordered[low], spare = spare, ordered[low]
        left = ordered[cut : len(rows) - cut]
        total = left[0].astype(np.float64)
        for row in left[1:]:
            total += row
        total /= len(left)
        return total

    return rule


@lru_cache(maxsize=64)
def exchanges(count: int) -> tuple[tuple[int, int], ...]:
    """Pairs of places to compare and exchange, one after the other, that sort `count` values.

    Rows are sorted against each other by whole vector operations this way. Batcher's merge exchange: Knuth, The Art of
    Computer Programming, volume 3, algorithm 5.2.2 M.
    """
    return tuple(_exchanges(count))


def _exchanges(count: int) -> Iterator[tuple[int, int]]:
    top = 1 << max(0, (count - 1).bit_length() - 1)
    p = top if count > 1 else 0
    while p:
        q, r, d = top, 0, p
        while True:
            yield from ((i, i + d) for i in range(count - d) if i & p == r)
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2


def _in_order(update: ClientUpdate) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    described = {name: (dtype, shape) for name, dtype, shape in update.signature}
    return ((name, *described[name]) for name in update)


def _pass(updates: Sequence[ClientUpdate], blank: Blank, rule: Rule) -> set[int]:
    """Fill in all values; which updates had some that are not finite."""
    bad: set[int] = set()
    with ThreadPoolExecutor(cores(), thread_name_prefix="flstore-combine") as pool:
        for dtype in updates[0].dtypes:
            of_chunk = _floats if is_floating(dtype) else _integers
            for target, *pieces in zip(blank.runs(dtype), *(update.runs(dtype) for update in updates), strict=True):
                out, lines = flat(target), [flat(piece) for piece in pieces]
                starts = range(0, out.size, _CHUNK)

                def chunk(at: int, of_chunk: Any = of_chunk, out: NDArray[Any] = out, lines: Rows = lines) -> set[int]:
                    with np.errstate(all="ignore"):  # here, because it holds for one thread only
                        return of_chunk([line[at : at + _CHUNK] for line in lines], out[at : at + _CHUNK], rule)

                bad |= set().union(*pool.map(chunk, starts))
    return bad


def _floats(rows: Rows, out: NDArray[Any], rule: Rule) -> set[int]:
    wide = rows[0].dtype in (np.float32, np.float64)
    rows = rows if wide else [row.astype(np.float32) for row in rows]
    # Zero times a number is zero, and times NaN or an infinity is not: one pass that cannot overflow.
    zeros = np.zeros_like(rows[0])
    bad = {i for i, row in enumerate(rows) if not np.isfinite(np.dot(row, zeros))}
    if not bad:
        np.copyto(out, rule(rows), casting="unsafe")
    return bad


def _integers(rows: Rows, out: NDArray[Any], rule: Rule) -> set[int]:
    origin = rows[0].astype(np.int64) & ~1  # even, so that a half is rounded to the even number
    differences = [(row.astype(np.int64) - origin).astype(np.float64) for row in rows]
    np.copyto(out, origin + np.rint(rule(differences)).astype(np.int64), casting="unsafe")
    return set()
