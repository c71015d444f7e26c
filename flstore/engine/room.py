"""Room: what nobody wants leaves, what is wanted finds a place or waits for one."""

from __future__ import annotations

from flstore.engine.placement import home, place
from flstore.engine.state import State, Waiting
from flstore.engine.table import NOWHERE, RoundTable, distinct
from flstore.engine.wants import Slot
from flstore.types import NO_CLIENT, Action, Drop, Group, IntArray, KeySet, Kind, Load, Refused, Source


def drop(state: State, touched: list[tuple[Slot, IntArray]]) -> list[Action]:
    """Let go of objects that nobody wants any more."""
    actions: list[Action] = []
    for slot, rows in touched:
        table = state.table(slot)
        assert table is not None
        gone = rows[(table.wants[rows] == 0) & (table.function[rows] != NOWHERE)]
        for f in distinct(table.function[gone]):
            part = gone[table.function[gone] == f]
            release(state, table, part)
            actions.append(Drop(f, subset(*slot, table.clients[part]), state.generation))
    return actions


def release(state: State, table: RoundTable, rows: IntArray) -> None:
    """Note that no function holds these rows any more."""
    for f in distinct(table.function[rows]):
        if f != NOWHERE:
            state.functions[f].used_bytes -= int(table.sizes[rows[table.function[rows] == f]].sum())
            state.may_fit = True
    table.function[rows] = NOWHERE
    table.ready[rows] = False


def await_room(state: State, slot: Slot, rows: IntArray, *, ingested: bool = False) -> None:
    """Put wanted objects in the queue, by the priority and group with which they are wanted."""
    table = state.table(slot)
    assert table is not None
    state.sequence += 1
    state.may_fit = True
    kinds = table.priority[rows] * 2 + table.by_client[rows]
    for kind in distinct(kinds)[::-1]:
        group = Group.CLIENT if kind % 2 else Group.ROUND
        part = rows[kinds == kind]
        state.waiting.append(Waiting(kind // 2, state.sequence, group, slot, part, ingested=ingested))


def fill(state: State) -> list[Action]:
    """Place what waits, the most urgent first; what finds no room goes on waiting."""
    actions: list[Action] = []
    left: list[Waiting] = []
    state.may_fit = False
    for item in sorted(state.waiting, key=lambda w: (-w.priority, w.order)):
        table = state.table(item.slot)
        assert table is not None
        rows = item.rows[(table.wants[item.rows] > 0) & (table.function[item.rows] == NOWHERE)]
        if not len(rows):
            continue
        placed = place(state, table.sizes[rows], home(state, item.slot, item.group, int(rows[0])))
        for f in distinct(placed[placed != NOWHERE]):
            actions.append(load(state, table, item, rows[placed == f], f))
        homeless = rows[placed == NOWHERE]
        if len(homeless):
            if not item.refused:
                actions.append(Refused(subset(*item.slot, table.clients[homeless]), _why(state, table, homeless)))
            left.append(Waiting(item.priority, item.order, item.group, item.slot, homeless, refused=True))
    state.waiting = left
    return actions


def load(state: State, table: RoundTable, item: Waiting, rows: IntArray, function: int) -> Load:
    """Decide that `function` holds `rows` from now on."""
    state.generation += 1
    size = int(table.sizes[rows].sum())
    state.functions[function].used_bytes += size
    table.function[rows] = function
    table.generation[rows] = state.generation
    table.ready[rows] = state.instant
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


def subset(job: int, kind: Kind, round: int, clients: IntArray) -> KeySet:
    """Some clients of one slot as a key set."""
    if len(clients) == 1 and int(clients[0]) == NO_CLIENT:
        return KeySet.of_client(job, kind, NO_CLIENT, [round])
    return KeySet(job, kind, round, clients)
