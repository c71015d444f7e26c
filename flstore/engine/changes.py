"""What events do to the state, before the policy is asked."""

from __future__ import annotations

import numpy as np

from flstore.engine.room import await_room, load, release, subset
from flstore.engine.state import FunctionState, State, Waiting
from flstore.engine.table import NOWHERE, distinct
from flstore.types import Action, Drop, FunctionJoined, FunctionLost, Group, Ingested, KeySet, Kind, LoadFailed


def refresh(state: State, event: Ingested) -> list[Action]:
    """Register what arrived. What is already held (metadata that grew) is loaded anew, where it sits if it fits."""
    state.register(event.keys, event.sizes)
    actions: list[Action] = []
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
                release(state, table, part)
                actions.append(Drop(f, subset(*slot, table.clients[part]), state.generation))
                await_room(state, slot, part, ingested=True)
    return actions


def forget(state: State, event: LoadFailed) -> list[Action]:
    """The function does not have these. They stay wanted, and are loaded anew when somebody asks for them.

    The function is told to drop them as well: a load of several may have failed half way.
    """
    if event.function not in state.functions:
        return []
    for _, table, _, rows in state.resolve(event.keys):
        if table is not None:
            rows = rows[rows >= 0]
            meant = (table.function[rows] == event.function) & (table.generation[rows] <= event.generation)
            release(state, table, rows[meant])
    return [Drop(event.function, event.keys, event.generation)]


def revive(state: State, key_sets: tuple[KeySet, ...]) -> None:
    """Requested, wanted, but not held (a load failed, or there was no room): try again."""
    for keys in key_sets:
        for slot, table, _, rows in state.resolve(keys):
            if table is None:
                continue
            rows = rows[rows >= 0]
            rows = rows[(table.wants[rows] > 0) & (table.function[rows] == NOWHERE)]
            if len(rows) and not any(w.slot == slot and np.isin(rows, w.rows).all() for w in state.waiting):
                await_room(state, slot, rows)


def join(state: State, event: FunctionJoined) -> list[Action]:
    """A function comes with what it holds: wanted, current, held by nobody else is kept, the rest is dropped."""
    if event.function in state.functions:
        lose(state, FunctionLost(event.function))
    function = state.functions[event.function] = FunctionState(event.capacity_bytes, event.incarnation)
    state.may_fit = True
    actions: list[Action] = []
    for keys, sizes in event.holds:
        at = 0
        for slot, table, clients, rows in state.resolve(keys):
            here = sizes[at : at + len(rows)]
            at += len(rows)
            adopt = np.zeros(len(rows), dtype=np.bool_)
            if table is not None and slot[1] is not Kind.METADATA:  # which may have changed meanwhile
                adopt = (rows >= 0) & (table.wants[rows] > 0) & (table.function[rows] == NOWHERE)
                adopt &= table.sizes[rows] == here
                kept = rows[adopt]
                function.used_bytes += int(table.sizes[kept].sum())
                table.function[kept] = event.function
                table.generation[kept] = 0
                table.ready[kept] = True
            if not adopt.all():
                actions.append(Drop(event.function, subset(*slot, clients[~adopt]), state.generation))
    return actions


def lose(state: State, event: FunctionLost) -> None:
    """All that the function held is wanted elsewhere now. Late news of an earlier incarnation changes nothing."""
    known = state.functions.get(event.function)
    if known is None or (event.incarnation and event.incarnation != known.incarnation):
        return
    for slot, table in state.slots():
        rows = np.flatnonzero(table.function == event.function)
        if len(rows):
            release(state, table, rows)
            await_room(state, slot, rows)
    del state.functions[event.function]
