"""How many owners want each object."""

from __future__ import annotations

import numpy as np

from flstore.engine.copies import subset
from flstore.engine.room import await_room
from flstore.engine.state import State
from flstore.engine.table import NOWHERE, RoundTable
from flstore.engine.wants import Slot
from flstore.types import Action, Group, IntArray, Refused, Unwant, Want


def count_want(state: State, want: Want, ingested: Slot | None) -> list[Action]:
    """Note what an owner wants; what is held nowhere waits for room. What does not exist is refused."""
    refused: list[Action] = []
    for slot, table, clients, rows in state.resolve(want.keys):
        if len(rows) == 1 and table is not None and rows[0] >= 0:
            _count_one(state, want, slot, table, rows, ingested=slot == ingested)
            continue
        unknown = rows < 0
        if unknown.any() or table is None:
            refused.append(Refused(subset(*slot, clients[unknown]), "there is no such object"))
            rows = rows[~unknown]
            if table is None or not len(rows):
                continue
        new = state.ledger.add(want.owner, slot, rows)
        first = new[table.wants[new] == 0]
        table.priority[first] = want.priority
        table.by_client[first] = want.group is Group.CLIENT
        table.priority[new] = np.maximum(table.priority[new], want.priority)
        table.wants[new] += 1
        homeless = new[table.function[new] == NOWHERE]
        if len(homeless):
            await_room(state, slot, homeless, ingested=slot == ingested)
    return refused


def _count_one(state: State, want: Want, slot: Slot, table: RoundTable, rows: IntArray, *, ingested: bool) -> None:
    """A want for one object that exists."""
    if not len(state.ledger.add(want.owner, slot, rows)):
        return
    one = rows[0]
    if table.wants[one] == 0:
        table.priority[one] = want.priority
        table.by_client[one] = want.group is Group.CLIENT
    elif table.priority[one] < want.priority:
        table.priority[one] = want.priority
    table.wants[one] += 1
    if table.function[one] == NOWHERE:
        await_room(state, slot, rows, ingested=ingested)


def count_unwant(state: State, unwant: Unwant) -> list[tuple[Slot, IntArray]]:
    """Note what an owner no longer wants; the rows that it did want."""
    if unwant.keys is None:
        removed = state.ledger.remove_all(unwant.owner)
    else:
        removed = [
            (slot, state.ledger.remove(unwant.owner, slot, rows))
            for slot, table, _, rows in state.resolve(unwant.keys)
            if table is not None
        ]
    for slot, rows in removed:
        table = state.table(slot)
        assert table is not None
        table.wants[rows] -= 1
    return removed
