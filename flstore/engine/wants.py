"""Who wants what: makes wanting twice the same as wanting once, and lets an owner withdraw all that it wants."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flstore.types import IntArray, Kind

Slot: TypeAlias = tuple[int, Kind, int]
"""(job, kind, round): the address of one table."""

_NONE: IntArray = np.empty(0, dtype=np.int64)


def _among(rows: IntArray, others: IntArray) -> NDArray[np.bool_]:
    """Which of `rows` are in `others`; one against many, as requests for one object bring it, without sorting."""
    if rows is others:
        return np.ones(len(rows), dtype=np.bool_)
    if len(others) == 1:
        same: NDArray[np.bool_] = rows == others[0]
        return same
    if len(rows) == 1:
        return np.array([bool((others == rows[0]).any())])
    if len(rows) == len(others) and (rows == others).all():
        return np.ones(len(rows), dtype=np.bool_)
    return np.isin(rows, others)


class WantLedger:
    """For each owner the rows that it wants, by slot."""

    def __init__(self) -> None:
        self._rows: dict[Hashable, dict[Slot, IntArray]] = {}

    def add(self, owner: Hashable, slot: Slot, rows: IntArray) -> IntArray:
        """Note that `owner` wants `rows`; return those that it did not want before."""
        slots = self._rows.setdefault(owner, {})
        if len(rows) > 1 and not (rows[1:] > rows[:-1]).all():
            rows = np.unique(rows)  # named twice is wanted once
        known = slots.get(slot)
        if known is None:
            slots[slot] = rows
            return rows
        if rows is known:
            return _NONE
        new: IntArray = rows[~_among(rows, known)]
        if len(new):
            slots[slot] = np.concatenate([known, new])
        return new

    def remove(self, owner: Hashable, slot: Slot, rows: IntArray) -> IntArray:
        """Note that `owner` no longer wants `rows`; return those that it did want."""
        slots = self._rows.get(owner, {})
        known = slots.get(slot)
        if known is None:
            return _NONE
        gone = _among(known, rows)
        if len(gone) == 1 or gone.all():
            if not gone[0]:
                return _NONE
            del slots[slot]
            if not slots:
                del self._rows[owner]
        else:
            slots[slot] = known[~gone]
        removed: IntArray = known[gone]
        return removed

    def remove_all(self, owner: Hashable) -> list[tuple[Slot, IntArray]]:
        """Forget `owner`; return all that it wanted."""
        return list(self._rows.pop(owner, {}).items())

    def forget(self, moved: dict[Slot, IntArray]) -> None:
        """Follow rows to their new numbers: by slot an array from old to new, -1 for what does not exist any more."""
        for owner, slots in list(self._rows.items()):
            for slot in moved.keys() & slots.keys():
                rows = moved[slot][slots[slot]]
                slots[slot] = rows[rows >= 0]
                if not len(slots[slot]):
                    del slots[slot]
            if not slots:
                del self._rows[owner]

    def owners(self) -> list[Hashable]:
        """Everybody who wants something."""
        return list(self._rows)
