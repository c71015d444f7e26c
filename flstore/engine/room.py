"""Room: what nobody wants leaves, what is wanted finds a place or waits for one."""

from __future__ import annotations

from flstore.engine.copies import holders, release, replicate, shed, subset
from flstore.engine.placement import home, place
from flstore.engine.single import drop_one, fill_one
from flstore.engine.state import State, Waiting
from flstore.engine.stripes import place_parts
from flstore.engine.table import NOWHERE, RoundTable, distinct
from flstore.engine.wants import Slot
from flstore.types import Action, Drop, Group, IntArray, Kind, Load, Refused, Source


def drop(state: State, touched: list[tuple[Slot, IntArray]]) -> list[Action]:
    """Let go of objects that nobody wants any more."""
    actions: list[Action] = []
    for slot, rows in touched:
        table = state.table(slot)
        assert table is not None
        if len(rows) == 1 and not table.copies and slot not in state.derived:
            dropped = drop_one(state, slot, table, int(rows[0]))
            if dropped is not None:
                actions.append(dropped)
            continue
        gone = rows[(table.wants[rows] == 0) & (table.function[rows] != NOWHERE)]
        for f, part in holders(table, gone):
            actions.append(Drop(f, subset(*slot, table.clients[part]), state.generation))
        release(state, slot, table, gone)
        if slot in state.derived and not table.wants.any():
            del state.derived[slot]
            state.underived.pop(slot, None)
    return actions


def await_room(state: State, slot: Slot, rows: IntArray, *, ingested: bool = False) -> None:
    """Put wanted objects in the queue, by the priority and group with which they are wanted."""
    table = state.table(slot)
    assert table is not None
    state.sequence += 1
    state.may_fit = True
    if len(rows) == 1:
        group = Group.CLIENT if table.by_client[rows[0]] else Group.ROUND
        state.waiting.append(
            Waiting(int(table.priority[rows[0]]), state.sequence, group, slot, rows, ingested=ingested)
        )
        return
    kinds = table.priority[rows] * 2 + table.by_client[rows]
    for kind in distinct(kinds)[::-1]:
        group = Group.CLIENT if kind % 2 else Group.ROUND
        part = rows[kinds == kind]
        state.waiting.append(Waiting(kind // 2, state.sequence, group, slot, part, ingested=ingested))


def fill(state: State) -> list[Action]:
    """Place what waits, the most urgent first; what finds no room goes on waiting. Copies make way for it."""
    actions: list[Action] = []
    left: list[Waiting] = []
    state.may_fit = False
    if len(state.waiting) == 1 and len(state.waiting[0].rows) == 1 and len(state.functions) == 1:
        loaded = fill_one(state, state.waiting[0])
        if loaded is not None:
            return loaded
    only = next(iter(state.functions)) if len(state.functions) == 1 else NOWHERE
    waiting = state.waiting if len(state.waiting) == 1 else sorted(state.waiting, key=lambda w: (-w.priority, w.order))
    for item in waiting:
        table = state.table(item.slot)
        assert table is not None
        rows = item.rows[(table.wants[item.rows] > 0) & (table.function[item.rows] == NOWHERE)]
        if not len(rows):
            continue
        homeless = rows
        if only == NOWHERE and item.slot[1] is not Kind.METADATA:
            in_parts, homeless = place_parts(state, item, table, rows)
            actions += in_parts
        while len(homeless) and table.parts == 1:
            near = only if only != NOWHERE else home(state, item.slot, item.group, int(rows[0]))
            placed = place(state, table.sizes[homeless], near)
            for f in distinct(placed[placed != NOWHERE]):
                actions.append(load(state, table, item, homeless[placed == f], f))
            homeless = homeless[placed == NOWHERE]
            made_room = shed(state, table.sizes[homeless]) if len(homeless) and state.copied else []
            if not made_room:
                break
            actions += made_room
        if len(homeless):
            if not item.refused:
                actions.append(Refused(subset(*item.slot, table.clients[homeless]), _why(state, table, homeless)))
            left.append(Waiting(item.priority, item.order, item.group, item.slot, homeless, refused=True))
    state.waiting = left
    if state.short:
        actions += replicate(state)
    state.may_fit = False
    return actions


def load(state: State, table: RoundTable, item: Waiting, rows: IntArray, function: int) -> Load:
    """Decide that `function` holds `rows` from now on."""
    state.generation += 1
    size = int(table.sizes[rows].sum())
    state.functions[function].used_bytes += size
    table.function[rows] = function
    table.generation[rows] = state.generation
    table.ready[rows] = state.instant
    state.spoil(item.slot)
    if state.copies_wanted(item.slot):
        state.short[item.slot] = None
    source = Source.INGEST if item.ingested else Source.STORE
    keys = subset(*item.slot, table.clients[rows])
    return Load(function, keys, source, size, state.generation, item.priority)


def _why(state: State, table: RoundTable, rows: IntArray) -> str:
    if not state.functions:
        return "no function is alive"
    largest = max(f.capacity_bytes for f in state.functions.values())
    biggest = int(table.sizes[rows].max())
    if biggest > largest:
        return f"an object of {biggest} bytes is larger than the largest function ({largest} bytes)"
    free = sum(f.free_bytes for f in state.functions.values())
    return f"no room: {int(table.sizes[rows].sum())} bytes wanted, {free} bytes free"
