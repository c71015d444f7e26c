"""What no function can hold alone is held in parts: each of several functions has one part of every object.

A round whose updates together exceed the largest function is cut by ranges of parameters, and the aggregate that it
started from with it, so that each function can work on its range alone. An aggregate that exceeds a function by itself
is cut between tensors. Parts have no copies: when one is lost, all are dropped and loaded anew where there is room.
"""

from __future__ import annotations

import numpy as np

from flstore.engine.copies import give_up, put, shed_from, subset
from flstore.engine.state import State, Waiting
from flstore.engine.table import NOWHERE, RoundTable, parts_bytes
from flstore.engine.wants import Slot
from flstore.types import Action, Cut, IntArray, Kind, Load, Part, Source

FULL = 0.95
"""How full the fewest functions that could hold the parts may become; the rest is for what arrives late."""


def place_parts(state: State, item: Waiting, table: RoundTable, rows: IntArray) -> tuple[list[Action], IntArray]:
    """Place waiting rows as parts where that must be; those rows that are left need another place, or wait.

    A slot becomes one in parts only when all that is wanted of it finds room so. Later rows go to the same functions;
    when these are full, and more functions could hold everything in more parts, all is placed anew.
    """
    slot = item.slot
    least = _fewest(state, slot, table, rows)
    beside = _functions_of_round(state, slot)
    if table.parts == 1 and least < 2 and not beside:
        return [], rows
    actions: list[Action] = []
    if table.parts > 1:
        actions, rows = _add(state, item, table, rows)
        if not len(rows):
            return actions, rows
    anew = _align(state, slot, table, beside) if table.parts == 1 and beside else []
    anew = anew or _stripe(state, item, table, max(least, table.parts + 1, 2) if least >= 2 else 0)
    if anew:
        rows = rows[table.function[rows] == NOWHERE]
    return actions + anew, rows


def _fewest(state: State, slot: Slot, table: RoundTable, rows: IntArray) -> int:
    """The fewest parts in which functions could hold what is wanted of this slot; 1 for what can sit on one."""
    largest = max((f.capacity_bytes for f in state.functions.values() if not f.leaving), default=0)
    if not largest or int(table.sizes.sum()) <= largest:
        return 1
    wanted = table.wants > 0
    together = int(table.sizes[wanted & ~table.by_client].sum()) if slot[1] is Kind.UPDATE else 0
    if together <= largest and int(table.sizes[rows].max()) <= largest:
        return 1
    total = int(table.sizes[wanted].sum()) + sum(int(t.sizes[r].sum()) for _, t, r in _start(state, slot))
    return max(2, -(-total // max(1, int(FULL * largest))))


def _start(state: State, slot: Slot) -> list[tuple[Slot, RoundTable, IntArray]]:
    """The aggregate that the updates of a round started from, when somebody wants it."""
    job, kind, round = slot
    start = (job, Kind.AGGREGATE, round - 1)
    table = state.table(start) if kind is Kind.UPDATE else None
    rows = np.flatnonzero(table.wants > 0) if table is not None else np.empty(0, dtype=np.int64)
    return [(start, table, rows)] if table is not None and len(rows) else []


def _functions_of_round(state: State, slot: Slot) -> tuple[int, ...]:
    """Of an aggregate: the functions that hold the parts of the round that starts from it."""
    job, kind, round = slot
    return state.striped.get((job, Kind.UPDATE, round + 1), ()) if kind is Kind.AGGREGATE else ()


def _room(state: State, tables: list[tuple[Slot, RoundTable, IntArray]]) -> dict[int, int]:
    """Bytes that each function would have for these tables if it dropped them and all copies."""
    room = {f: s.free_bytes + s.copy_bytes for f, s in state.functions.items() if not s.leaving}
    for _, table, _ in tables:
        layers = table.layers() if table.parts > 1 else [table]
        for layer in layers:
            for f in room:
                room[f] += table.bytes_each(np.flatnonzero(layer.function == f))
    return room


def _stripe(state: State, item: Waiting, table: RoundTable, least: int) -> list[Action]:
    """Hold everything wanted of a slot in at least so many parts, with the aggregate that it starts from if it fits."""
    if not least:
        return []
    mine = [(item.slot, table, np.flatnonzero(table.wants > 0))]
    for group in (mine + _start(state, item.slot), mine) if _start(state, item.slot) else (mine,):
        room = _room(state, group)
        emptiest = sorted(room, key=lambda f: (-room[f], f))
        for count in range(least, len(room) + 1):
            need = sum(parts_bytes(t.sizes[rows], count) for _, t, rows in group)
            if room[emptiest[count - 1]] >= need:
                cut = Cut.RANGES if item.slot[1] is Kind.UPDATE else Cut.TENSORS
                return _place_anew(state, group, tuple(emptiest[:count]), cut, item.priority)
    return []


def _align(state: State, slot: Slot, table: RoundTable, functions: tuple[int, ...]) -> list[Action]:
    """Hold an aggregate in parts on the functions of its round's parts, if it fits."""
    group = [(slot, table, np.flatnonzero(table.wants > 0))]
    room = _room(state, group)
    need = parts_bytes(table.sizes[group[0][2]], len(functions))
    if any(room.get(f, -1) < need for f in functions):
        return []
    return _place_anew(state, group, functions, Cut.RANGES, int(table.priority.max()))


def _place_anew(
    state: State, group: list[tuple[Slot, RoundTable, IntArray]], functions: tuple[int, ...], cut: Cut, priority: int
) -> list[Action]:
    actions: list[Action] = []
    for slot, table, _ in group:
        actions += give_up(state, slot, table, np.flatnonzero(table.function != NOWHERE))
    for f in functions:
        actions += shed_from(state, f, sum(parts_bytes(t.sizes[rows], len(functions)) for _, t, rows in group))
    for slot, table, rows in group:
        table.parts, table.cut = len(functions), cut
        state.striped[slot] = functions
        for lacking in (state.short, state.bereft):
            lacking.pop(slot, None)
        while len(table.copies) < len(functions) - 1:
            table.add_layer()
        actions += _load(state, slot, table, rows, priority, Source.STORE)
    return actions


def _add(state: State, item: Waiting, table: RoundTable, rows: IntArray) -> tuple[list[Action], IntArray]:
    """Place the parts of further rows beside those of the others, as many rows as fit, in order; and what is left."""
    functions = state.striped[item.slot]
    used = np.cumsum(-(-table.sizes[rows] // table.parts))
    room = {f: state.functions[f].free_bytes + state.functions[f].copy_bytes for f in functions}
    fit = int(np.searchsorted(used, min(room.values()), side="right"))
    if not fit:
        return [], rows
    actions: list[Action] = []
    for f in functions:
        actions += shed_from(state, f, int(used[fit - 1]))
    source = Source.INGEST if item.ingested else Source.STORE
    return actions + _load(state, item.slot, table, rows[:fit], item.priority, source), rows[fit:]


def _load(state: State, slot: Slot, table: RoundTable, rows: IntArray, priority: int, source: Source) -> list[Action]:
    actions: list[Action] = []
    keys, size = subset(*slot, table.clients[rows]), table.bytes_each(rows)
    for i, (f, layer) in enumerate(zip(state.striped[slot], table.layers(), strict=True)):
        state.generation += 1
        put(state, table, layer, rows, f, state.generation, state.instant)
        part = Part(i, table.parts, table.cut)
        actions.append(Load(f, keys, source, size, state.generation, priority, part))
    return actions
