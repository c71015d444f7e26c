"""What the index knows of the objects of one kind in one round: parallel arrays, one row an object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.types import Cut, IntArray

NOWHERE = -1
"""The function column of an object that no function holds."""

FEW = 16
"""Up to so many values plain Python is faster than arrays."""

SMALL = 64
"""Up to so many rows a round is looked up through a dict, which is faster and takes little; then through sorted ids."""

_NONE: IntArray = np.empty(0, dtype=np.int64)
_NO_INTS: NDArray[np.int32] = np.empty(0, dtype=np.int32)
_NO_FLAGS: NDArray[np.bool_] = np.empty(0, dtype=np.bool_)
_UNKNOWN: IntArray = np.full(1, -1, dtype=np.int64)
_UNKNOWN.setflags(write=False)


def distinct(values: IntArray) -> list[int]:
    """The different values, ascending; nearly always there is one, which needs no sorting."""
    if len(values) <= FEW:
        return sorted(set(values.tolist()))
    if (values == values[0]).all():
        return [int(values[0])]
    found: list[int] = np.unique(values).tolist()
    return found


@lru_cache(maxsize=64)
def every(count: int) -> IntArray:
    """All rows of a table with so many; the same array for all of them, not to be changed."""
    rows = np.arange(count)
    rows.setflags(write=False)
    return rows


def parts_bytes(sizes: IntArray, count: int) -> int:
    """Bytes of one part of each object, with `count` parts an object."""
    return int(sizes.sum() if count == 1 else (-(-sizes // count)).sum())


@dataclass(slots=True)
class Layer:
    """Where a further copy of each row is: the columns of that name in :class:`RoundTable`."""

    function: NDArray[Any]
    generation: IntArray
    ready: NDArray[np.bool_]

    def extend(self, n: int) -> None:
        """Append rows that have no such copy."""
        self.function = np.concatenate([self.function, np.full(n, NOWHERE, dtype=np.int32)])
        self.generation = np.concatenate([self.generation, np.zeros(n, dtype=np.int64)])
        self.ready = np.concatenate([self.ready, np.zeros(n, dtype=np.bool_)])

    def keep(self, stays: NDArray[np.bool_]) -> None:
        """Only these rows."""
        self.function, self.generation, self.ready = self.function[stays], self.generation[stays], self.ready[stays]


class RoundTable:
    """Rows in order of arrival, looked up through a sorted copy of the client column.

    Attributes
    ----------
    clients : ndarray of int64, shape (n,)
        Interned client ids.
    sizes : ndarray of int64, shape (n,)
        Bytes.
    wants : ndarray of int32, shape (n,)
        How many owners want the object. It is held while this is positive and there is room.
    priority : ndarray of int32, shape (n,)
        The highest priority with which it was wanted since it was last unwanted.
    by_client : ndarray of bool, shape (n,)
        Whether the first who wanted it wants it beside the same client's other updates, not beside its round.
    function : ndarray of int32, shape (n,)
        The function that holds it (from the decision to load it on), or ``NOWHERE``.
    generation : ndarray of int64, shape (n,)
        The number of the load that put it there.
    ready : ndarray of bool, shape (n,)
        Whether that load is done.
    since : ndarray of int64, shape (n,)
        The number of the last load that was decided before the object came to exist: what an earlier load brought
        was another object of that name.
    copies : list of Layer
        Further functions that hold it, never the same one twice; a row may have a copy in the second layer and none in
        the first. A row that `function` does not place has no copies.
    parts : int
        In how many parts objects are held: 1, or as many as there are functions that hold a part of each. Then the
        primary columns place the first part and ``copies[i - 1]`` places part i of every row that is held.
    cut : Cut
        How they are cut into parts.
    """

    __slots__ = (
        "_order", "_row_of", "_sorted", "by_client", "clients", "copies", "cut", "function", "generation", "parts",
        "priority", "ready", "since", "sizes", "wants",
    )  # fmt: skip

    def __init__(self) -> None:
        self.clients: IntArray = _NONE
        self.sizes: IntArray = _NONE
        self.wants: NDArray[np.int32] = _NO_INTS
        self.priority: NDArray[Any] = _NO_INTS
        self.by_client: NDArray[np.bool_] = _NO_FLAGS
        self.function: NDArray[Any] = _NO_INTS
        self.generation: IntArray = _NONE
        self.ready: NDArray[np.bool_] = _NO_FLAGS
        self.since: IntArray = _NONE
        self.copies: list[Layer] = []
        self.parts = 1
        self.cut = Cut.RANGES
        self._order: NDArray[np.int32] | None = None
        self._sorted: Any = None
        self._row_of: dict[int, int] | None = None

    def layers(self) -> Iterator[Layer | RoundTable]:
        """The primary's columns, then those of the copies."""
        yield self
        yield from self.copies

    def add_layer(self) -> Layer:
        """A new layer, without a copy of anything."""
        n = len(self.clients)
        layer = Layer(np.full(n, NOWHERE, dtype=np.int32), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.bool_))
        self.copies.append(layer)
        return layer

    def any_ready(self, rows: IntArray) -> NDArray[np.bool_]:
        """Whether the primary or a copy of each row, or every part of it, is done loading."""
        ready: NDArray[np.bool_] = self.ready[rows]
        for layer in self.copies:
            ready = ready & layer.ready[rows] if self.parts > 1 else ready | layer.ready[rows]
        return ready

    def bytes_each(self, rows: IntArray) -> int:
        """Bytes that these rows take on each function that holds them, whole or a part of each."""
        return parts_bytes(self.sizes[rows], self.parts)

    def rows(self, clients: IntArray) -> IntArray:
        """Row of each client, -1 where the round has none."""
        n = len(self.clients)
        if clients is self.clients:  # the whole round, as View.participants hands it out
            return every(n)
        if n == 0:
            return np.full(len(clients), -1, dtype=np.int64)
        if len(clients) == 1:  # what a request for one object asks for
            row = self.row(clients.item())
            return self.every(row) if row >= 0 else _UNKNOWN
        order = self._look_up()
        place = np.minimum(self._sorted.searchsorted(clients), n - 1)
        return np.where(self._sorted[place] == clients, place if order is None else order[place], -1)

    def every(self, row: int) -> IntArray:
        """One row as an array."""
        return every(len(self.clients))[row : row + 1]

    def row(self, client: int) -> int:
        """Row of one client, -1 when the round has none."""
        n = len(self.clients)
        if n > SMALL:
            order = self._look_up()
            at = int(self._sorted.searchsorted(client))
            if at == n or self._sorted[at] != client:
                return -1
            return at if order is None else int(order[at])
        if self._row_of is None:
            self._row_of = {c: row for row, c in enumerate(self.clients.tolist())}
        return self._row_of.get(client, -1)

    def _look_up(self) -> NDArray[np.int32] | None:
        """Sort the client column; the order that does it, None when it is sorted as it is."""
        if self._sorted is None:
            self._order, self._sorted = None, self.clients
            if (self.clients[1:] <= self.clients[:-1]).any():
                self._order = np.argsort(self.clients, kind="stable").astype(np.int32)
                self._sorted = self.clients[self._order]
        return self._order

    def add(self, clients: IntArray, sizes: IntArray, since: int = 0) -> None:
        """Append new rows, held nowhere. The caller has made sure that they are new."""
        n = len(clients)
        more: dict[str, NDArray[Any]] = {
            "clients": clients,
            "sizes": sizes,
            "wants": np.zeros(n, dtype=np.int32),
            "priority": np.zeros(n, dtype=np.int32),
            "by_client": np.zeros(n, dtype=np.bool_),
            "function": np.full(n, NOWHERE, dtype=np.int32),
            "generation": np.zeros(n, dtype=np.int64),
            "ready": np.zeros(n, dtype=np.bool_),
            "since": np.full(n, since, dtype=np.int64),
        }
        first = not len(self.clients)
        for name, column in more.items():
            # Nobody changes the clients of an event in place; sizes are changed here.
            joined = column if first else np.concatenate([getattr(self, name), column])
            setattr(self, name, joined.copy() if first and name == "sizes" else joined)
        for layer in self.copies:
            layer.extend(n)
        self._sorted = self._row_of = None

    def remove(self, rows: IntArray) -> IntArray:
        """Take rows out; the new number of each old row, -1 for those that went. Arrays handed out stay as they are."""
        stays = np.ones(len(self.clients), dtype=np.bool_)
        stays[rows] = False
        for name in ("clients", "sizes", "wants", "priority", "by_client", "function", "generation", "ready", "since"):
            setattr(self, name, getattr(self, name)[stays])
        for layer in self.copies:
            layer.keep(stays)
        self._sorted = self._row_of = None
        moved: IntArray = np.where(stays, np.cumsum(stays) - 1, -1)
        return moved
