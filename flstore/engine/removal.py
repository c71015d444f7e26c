"""What becomes of the state when objects are deleted: it forgets them, and who holds them is told to drop them."""

from __future__ import annotations

import numpy as np

from flstore.engine.copies import holders, release, subset
from flstore.engine.state import State
from flstore.engine.wants import Slot
from flstore.types import Deleted, Drop, IntArray, KeySet, Kind


def holding(state: State, key_sets: tuple[KeySet, ...]) -> list[Drop]:
    """The drops that free every function of these objects, copies included; changes nothing."""
    return [
        Drop(function, subset(*slot, table.clients[part]), state.generation)
        for keys in key_sets
        for slot, table, _, rows in state.resolve(keys)
        if table is not None
        for function, part in holders(table, np.unique(rows[rows >= 0]))
    ]


def delete(state: State, event: Deleted) -> list[Drop]:
    """Forget these objects: where they are, who wants them, and that they wait for room.

    What is not known is passed over, so an event may come twice.
    """
    drops = holding(state, event.keys)
    moved: dict[Slot, IntArray] = {}
    for keys in event.keys:
        for slot, table, _, rows in state.resolve(keys):
            gone = np.unique(rows[rows >= 0])
            if table is None or not len(gone):
                continue
            release(state, slot, table, gone)
            if slot[1] is Kind.UPDATE:
                state.shorten_chains(slot[0], slot[2], table.clients[gone])
            now = table.remove(gone)
            moved[slot] = _then(moved[slot], now) if slot in moved else now
            if not len(table.clients):
                _strike(state, slot)
    state.ledger.forget(moved)
    for item in state.waiting:
        if item.slot in moved:
            rows = moved[item.slot][item.rows]
            item.rows = rows[rows >= 0]
    state.waiting = [item for item in state.waiting if len(item.rows)]
    return drops


def _then(first: IntArray, second: IntArray) -> IntArray:
    """Two removals from one table as one."""
    moved = first.copy()
    moved[first >= 0] = second[first[first >= 0]]
    return moved


def _strike(state: State, slot: Slot) -> None:
    """Take a table out of which the last object went."""
    job, kind, round = slot
    del state.tables[job, kind][round]
    state.rounds[job, kind].remove(round)
    if not state.rounds[job, kind]:
        del state.tables[job, kind], state.rounds[job, kind]
    state.hot.pop(slot, None)
    state.striped.pop(slot, None)
    state.derived.pop(slot, None)
    for noted in (state.copied, state.short, state.bereft, state.underived):
        noted.pop(slot, None)
