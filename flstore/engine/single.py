"""The transition for one object, without arrays: what requests for single updates come down to."""

from __future__ import annotations

import numpy as np

from flstore.engine.copies import subset
from flstore.engine.state import State, Waiting
from flstore.engine.table import NOWHERE, RoundTable
from flstore.engine.wants import Slot
from flstore.types import NO_CLIENT, Action, Counts, Drop, Group, IntArray, KeySet, Load, Source, Unwant, Want

HIT, LATE, MISS = Counts(1, 0, 0), Counts(0, 1, 0), Counts(0, 0, 1)


def find(state: State, keys: KeySet) -> tuple[Slot, RoundTable, int] | None:
    """Address, table and row of a key set that is one object of a client; None for any other, or an unknown one."""
    clients, rounds = keys.clients, keys.rounds
    if isinstance(clients, np.ndarray):
        if len(clients) != 1 or isinstance(rounds, np.ndarray):
            return None
        client, round = clients.item(), rounds
    elif not isinstance(rounds, np.ndarray) or len(rounds) != 1 or clients == NO_CLIENT:
        return None
    else:
        client, round = clients, rounds.item()
    tables = state.tables.get((keys.job, keys.kind))
    table = None if tables is None else tables.get(round)
    row = -1 if table is None else table.row(client)
    return None if table is None or row < 0 else ((keys.job, keys.kind, round), table, row)


def classify_one(state: State, keys: KeySet) -> Counts | None:
    """How one object stands; None where :func:`find` finds none."""
    found = find(state, keys)
    if found is None:
        return None
    _, table, row = found
    if table.function[row] == NOWHERE:
        return MISS
    ready = table.any_ready(table.every(row))[0] if table.copies else table.ready[row]
    return HIT if ready else LATE


def want_one(state: State, want: Want, slot: Slot, table: RoundTable, row: int) -> IntArray | None:
    """Count a want; the row when it has to be placed."""
    rows = table.every(row)
    if not len(state.ledger.add(want.owner, slot, rows)):
        return None
    first = not table.wants[row]
    if first:
        table.by_client[row] = want.group is Group.CLIENT
    if first or table.priority[row] < want.priority:
        table.priority[row] = want.priority
    table.wants[row] += 1
    return rows if table.function[row] == NOWHERE else None


def unwant_one(state: State, unwant: Unwant, slot: Slot, table: RoundTable, row: int) -> tuple[Slot, IntArray] | None:
    """Count that a want is withdrawn; what was touched."""
    removed = state.ledger.remove(unwant.owner, slot, table.every(row))
    if not len(removed):
        return None
    table.wants[row] -= 1
    return slot, removed


def drop_one(state: State, slot: Slot, table: RoundTable, row: int) -> Drop | None:
    """Let go of an object without copies, when nobody wants it and someone holds it."""
    f = int(table.function[row])
    if f == NOWHERE or table.wants[row]:
        return None
    state.functions[f].used_bytes -= int(table.sizes[row])
    state.may_fit = True
    table.function[row] = NOWHERE
    table.ready[row] = False
    return Drop(f, subset(*slot, table.clients[row : row + 1]), state.generation)


def fill_one(state: State, item: Waiting) -> list[Action] | None:
    """Place the only thing that waits on the only function there is; None when that is not so, or there is no room."""
    ((f, function),) = state.functions.items()
    table = state.table(item.slot)
    assert table is not None
    row = int(item.rows[0])
    if not table.wants[row] or table.function[row] != NOWHERE:
        state.waiting = []
        return []
    size = int(table.sizes[row])
    if (
        function.leaving
        or size > function.free_bytes
        or table.parts > 1
        or state.short
        or state.copies_wanted(item.slot)
    ):
        return None
    state.waiting = []
    state.generation += 1
    function.used_bytes += size
    table.function[row] = f
    table.generation[row] = state.generation
    table.ready[row] = state.instant
    state.spoil(item.slot)
    source = Source.INGEST if item.ingested else Source.STORE
    return [Load(f, subset(*item.slot, table.clients[row : row + 1]), source, size, state.generation, item.priority)]
