"""Where the client updates of a job are, rounds against clients: a snapshot, as data."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flstore.engine.table import NOWHERE, every
from flstore.types import Key, Kind

if TYPE_CHECKING:
    import pandas as pd

    from flstore.catalogue import Catalogue

MOST_COLUMNS, MOST_ROWS = 120, 40
"""Cells of a map; with more rounds or clients, a cell stands for several."""


class Tier(IntEnum):
    """Where an update is; of several, the largest is the nearest."""

    ABSENT = 0
    """There is none: the client did not take part in the round."""
    STORED = 1
    """In the persistent store, or on its way there, and in no function's memory."""
    LOADING = 2
    """On its way into a function's memory."""
    CACHED = 3
    """In a function's memory."""


@dataclass(frozen=True, repr=False, eq=False)
class CacheMap:
    """Client updates by round and client, each in the tier where it is; shows itself in a notebook.

    Attributes
    ----------
    rounds : ndarray of int64, shape (columns, 2)
        First and last round of each column, ascending.
    clients : int
        How many there are. Rows are clients in the order in which they first came.
    tiers : ndarray of uint8, shape (rows, columns)
        The nearest tier (:class:`Tier`) of the updates of a cell.
    counts : ndarray of int64, shape (4,)
        How many updates there are in each tier; for ABSENT, how many (round, client) have none.
    """

    rounds: NDArray[np.int64]
    clients: int
    tiers: NDArray[np.uint8]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, catalogue: Catalogue, held: Collection[Key] | None = None, alive: bool = True) -> CacheMap:
        """A map of what exists in a job.

        Parameters
        ----------
        catalogue : Catalogue
            What exists and, for a store that writes, where it is.
        held : collection of Key, optional
            What functions hold, where the catalogue does not know it (of a reader).
        alive : bool
            Whether functions hold anything at all: not any more once the store is closed.
        """
        with catalogue.lock:
            slots = sorted(catalogue.state.tables.get((catalogue.number, Kind.UPDATE), {}).items())
            slots = [(number, table) for number, table in slots if len(table.clients)]
            rounds = np.array([number for number, _ in slots], dtype=np.int64)
            clients = _joined([table.clients for _, table in slots], np.int64)
            at = np.repeat(np.arange(len(slots)), [len(table.clients) for _, table in slots])
            tiers = np.full(len(clients), Tier.STORED, dtype=np.uint8)
            if alive:
                here = _joined([table.function != NOWHERE for _, table in slots], np.bool_)
                ready = _joined([table.any_ready(every(len(table.clients))) for _, table in slots], np.bool_)
                tiers[here] = Tier.LOADING
                tiers[here & ready] = Tier.CACHED
            if held:
                known = {(k.round, catalogue.ids.find(str(k.client))) for k in held if k.kind is Kind.UPDATE}
                pairs = zip(rounds[at].tolist(), clients.tolist(), strict=True)
                tiers[np.fromiter((pair in known for pair in pairs), np.bool_, len(clients))] = Tier.CACHED
        return cls._drawn(rounds, at, clients, tiers)

    @classmethod
    def _drawn(cls, rounds: NDArray[Any], at: NDArray[Any], clients: NDArray[Any], tiers: NDArray[Any]) -> CacheMap:
        """Put updates, given by their round (its position) and client, into cells."""
        there = np.bincount(clients) > 0 if len(clients) else np.zeros(0, dtype=np.bool_)
        many = int(there.sum())
        columns, rows = min(len(rounds), MOST_COLUMNS), min(many, MOST_ROWS)
        column_of = np.arange(len(rounds)) * columns // max(1, len(rounds))
        row_of = (np.cumsum(there) - 1) * rows // max(1, many)
        cell = row_of[clients] * columns + column_of[at]
        grid = np.zeros(rows * columns, dtype=np.uint8)
        for tier in (Tier.STORED, Tier.LOADING, Tier.CACHED):
            grid[cell[tiers == tier]] = tier
        starts = np.searchsorted(column_of, np.arange(columns))
        ends = np.searchsorted(column_of, np.arange(columns), side="right") - 1
        counts = np.bincount(tiers, minlength=len(Tier))
        counts[Tier.ABSENT] = len(rounds) * many - len(clients)
        bounds = np.stack([rounds[starts], rounds[ends]], axis=1) if columns else np.zeros((0, 2), dtype=np.int64)
        return cls(bounds, many, grid.reshape(rows, columns), counts)

    def frame(self) -> pd.DataFrame:
        """How many updates are in each tier: one row a tier, the column ``updates``."""
        import pandas as pd

        return pd.DataFrame({"updates": self.counts}, index=pd.Index([t.name.lower() for t in Tier], name="tier"))

    def __repr__(self) -> str:
        from flstore.display.cache_map import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.cache_map import html

        return html(self)


def _joined(parts: list[Any], dtype: Any) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)
