"""What events do to the state, before the policy is asked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flstore.engine.copies import drop_copies, give_up, held_by, put_copy, release, subset, vacate
from flstore.engine.room import await_room, load
from flstore.engine.single import find
from flstore.engine.state import FunctionState, State, Waiting
from flstore.engine.table import NOWHERE, RoundTable, distinct
from flstore.types import (
    Action,
    Counts,
    Drop,
    FunctionJoined,
    FunctionLost,
    Group,
    Ingested,
    IntArray,
    KeySet,
    Kind,
    Loaded,
    LoadFailed,
)


def refresh(state: State, event: Ingested) -> list[Action]:
    """Register what arrived. What is already held (metadata that grew) is loaded anew, where it sits if it fits."""
    actions: list[Action] = []
    if state.copied or state.striped:
        for slot, table, _, rows in state.resolve(event.keys):
            if table is not None and table.parts > 1:
                held = rows[(rows >= 0) & (table.function[rows] != NOWHERE)]
                actions += give_up(state, slot, table, held)
                await_room(state, slot, held, ingested=True)
            elif table is not None and table.copies:
                actions += drop_copies(state, slot, table, rows[rows >= 0])
                state.short[slot] = None
    if not state.register(event.keys, event.sizes):
        return actions
    for slot, table, _, rows in state.resolve(event.keys):
        assert table is not None
        held = rows[table.function[rows] != NOWHERE]
        for f in distinct(table.function[held]):
            part = held[table.function[held] == f]
            if state.functions[f].free_bytes >= 0:
                state.functions[f].used_bytes -= int(table.sizes[part].sum())
                again = Waiting(int(table.priority[part].max()), 0, Group.ROUND, slot, part, ingested=True)
                actions.append(load(state, table, again, part, f))
            else:
                release(state, slot, table, part)
                actions.append(Drop(f, subset(*slot, table.clients[part]), state.generation))
                await_room(state, slot, part, ingested=True)
    return actions


def forget(state: State, event: LoadFailed) -> list[Action]:
    """The function does not have these. They stay wanted, and are loaded anew when somebody asks for them.

    The function is told to drop them as well: a load of several may have failed half way.
    """
    if event.function not in state.functions:
        return []
    drops: list[Action] = []
    for slot, table, _, rows in state.resolve(event.keys):
        if table is not None:
            meant = held_by(table, rows[rows >= 0], event.function, event.generation)
            if table.parts > 1:  # the other parts are of no use without this one
                drops += give_up(state, slot, table, meant)
                continue
            vacate(state, slot, table, meant, event.function)
            if slot in state.short:  # not at once: what failed would fail for ever
                del state.short[slot]
                state.bereft[slot] = None
    return [*drops, Drop(event.function, event.keys, event.generation)]


def revive(state: State, key_sets: tuple[KeySet, ...]) -> None:
    """Requested, wanted, but not held (a load failed, or there was no room): try again. So with copies."""
    for keys in key_sets:
        found = find(state, keys)
        if found is not None and not state.bereft and not found[1].wants[found[2]]:
            continue
        for slot, table, _, rows in state.resolve(keys):
            if table is None:
                continue
            if slot in state.bereft:
                del state.bereft[slot]
                state.short[slot] = None
                state.may_fit = True
            rows = rows[rows >= 0]
            rows = rows[(table.wants[rows] > 0) & (table.function[rows] == NOWHERE)]
            if len(rows) and not any(w.slot == slot and np.isin(rows, w.rows).all() for w in state.waiting):
                await_room(state, slot, rows)


def join(state: State, event: FunctionJoined, share: float = 1.0) -> list[Action]:
    """A function comes with what it holds: wanted, current, held by nobody else is kept, the rest is dropped.

    Only `share` of its memory counts.
    """
    actions: list[Action] = lose(state, FunctionLost(event.function)) if event.function in state.functions else []
    function = state.functions[event.function] = FunctionState(int(event.capacity_bytes * share), event.incarnation)
    state.may_fit = True
    for keys, sizes in event.holds:
        at = 0
        for slot, table, clients, rows in state.resolve(keys):
            here = sizes[at : at + len(rows)]
            at += len(rows)
            adopt = np.zeros(len(rows), dtype=np.bool_)
            if table is not None and table.parts == 1 and slot[1] is not Kind.METADATA:  # that may have changed
                known = (rows >= 0) & (table.wants[rows] > 0) & (table.sizes[rows] == here)
                spare = known & (table.function[rows] != NOWHERE)
                spare &= np.array([sum(la.function[r] != NOWHERE for la in table.copies) for r in rows]) < (
                    state.copies_wanted(slot)
                )
                spare = _fitting(function, table, rows, spare)
                if spare.any():
                    put_copy(state, slot, table, rows[spare], event.function, 0, True)
                adopt = _fitting(function, table, rows, known & (table.function[rows] == NOWHERE))
                kept = rows[adopt]
                function.used_bytes += int(table.sizes[kept].sum())
                table.function[kept] = event.function
                table.generation[kept] = 0
                table.ready[kept] = True
                adopt |= spare
                if len(kept) and state.copies_wanted(slot):
                    state.short[slot] = None
            if not adopt.all():
                actions.append(Drop(event.function, subset(*slot, clients[~adopt]), state.generation))
    return actions


def _fitting(
    function: FunctionState, table: RoundTable, rows: IntArray, chosen: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """As many of the chosen rows as there is room for: it may bring more than the part of its memory that counts."""
    fits = chosen.copy()
    fits[chosen] = np.cumsum(table.sizes[rows[chosen]]) <= function.free_bytes
    return fits


def lose(state: State, event: FunctionLost) -> list[Action]:
    """What the function alone held is wanted elsewhere now; copies take over the rest, other parts are dropped.

    Late news of an earlier incarnation changes nothing.
    """
    known = state.functions.get(event.function)
    if known is None or (event.incarnation and event.incarnation != known.incarnation):
        return []
    drops = disband(state, event.function)
    for slot, table in state.slots():
        held = held_by(table, np.arange(len(table.clients)), event.function)
        homeless = vacate(state, slot, table, held, event.function) if len(held) else held
        if len(homeless):
            await_room(state, slot, homeless)
    del state.functions[event.function]
    return [action for action in drops if isinstance(action, Drop) and action.function != event.function]


def disband(state: State, function: int) -> list[Action]:
    """Drop everything of which `function` has a part, and let it wait for room."""
    actions: list[Action] = []
    for slot, functions in list(state.striped.items()):
        if function in functions:
            table = state.table(slot)
            assert table is not None
            rows = np.flatnonzero(table.function != NOWHERE)
            actions += give_up(state, slot, table, rows)
            await_room(state, slot, rows)
    return actions


def classify(state: State, key_sets: tuple[KeySet, ...]) -> Counts:
    """How each key stands before the event: hit, late hit (still loading) or miss. The same rule for every policy."""
    hits = late = misses = 0
    for keys in key_sets:
        for _, table, _, rows in state.resolve(keys):
            if table is None:
                misses += len(rows)
                continue
            held = (rows >= 0) & (table.function[rows] != NOWHERE)
            ready = held & table.any_ready(rows)
            hits += int(ready.sum())
            late += int(held.sum()) - int(ready.sum())
            misses += len(rows) - int(held.sum())
    return Counts(hits, late, misses)


def mark_ready(state: State, event: Loaded) -> None:
    """These objects have arrived, unless the function was told to load them anew meanwhile."""
    for _, table, _, rows in state.resolve(event.keys):
        if table is not None:
            rows = rows[rows >= 0]
            for layer in table.layers():
                current = (layer.function[rows] == event.function) & (layer.generation[rows] == event.generation)
                layer.ready[rows[current]] = True
