"""Copies beyond the first: placed on other functions, promoted when the first is lost, given up when room is short.

An object is held by its primary function, which the wants of policies bring about; copies only follow it. They use the
room that primaries leave (appendix A.1 of the paper calls them secondary functions).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flstore.engine.placement import companions, place
from flstore.engine.state import State
from flstore.engine.table import NOWHERE, Layer, RoundTable, distinct
from flstore.engine.wants import Slot
from flstore.types import NO_CLIENT, Action, Demand, Drop, FunctionLeaving, IntArray, KeySet, Kind, Load, Source

COPY_PRIORITY = -1
"""Of loads of copies: nothing waits for them."""


def subset(job: int, kind: Kind, round: int, clients: IntArray) -> KeySet:
    """Some clients of one slot as a key set."""
    if len(clients) == 1 and int(clients[0]) == NO_CLIENT:
        return KeySet.of_client(job, kind, NO_CLIENT, [round])
    return KeySet(job, kind, round, clients)


def holders(table: RoundTable, rows: IntArray) -> list[tuple[int, IntArray]]:
    """(function, rows that it holds, as primary or as a copy), in a fixed order."""
    found = [(f, rows[table.function[rows] == f]) for f in distinct(table.function[rows]) if f != NOWHERE]
    for layer in table.copies:
        found += [(f, rows[layer.function[rows] == f]) for f in distinct(layer.function[rows]) if f != NOWHERE]
    return found


def held_by(table: RoundTable, rows: IntArray, function: int, up_to: int | None = None) -> IntArray:
    """Those of `rows` that `function` holds, if given by loads up to generation `up_to`."""
    mine = np.zeros(len(rows), dtype=np.bool_)
    for layer in table.layers():
        here = layer.function[rows] == function
        mine |= here if up_to is None else here & (layer.generation[rows] <= up_to)
    return rows[mine]


def vacate(state: State, slot: Slot, table: RoundTable, rows: IntArray, function: int) -> IntArray:
    """Note that `function` does not hold `rows` any more; a copy elsewhere becomes the primary.

    Returns
    -------
    ndarray
        Those of `rows` that no function holds now.
    """
    for layer in table.copies:
        _clear(state, table, layer, rows[layer.function[rows] == function], copy=True)
    orphans = rows[table.function[rows] == function]
    _clear(state, table, table, orphans)
    for stays in (True, False):  # an heir on a function that is leaving only where there is no other
        for layer in table.copies:
            for f in distinct(layer.function[orphans]):
                if f != NOWHERE and state.functions[f].leaving is not stays:
                    heirs = orphans[(table.function[orphans] == NOWHERE) & (layer.function[orphans] == f)]
                    _promote(state, table, layer, heirs, f)
    if state.copies_wanted(slot) or any(f.leaving for f in state.functions.values()):
        state.short[slot] = None
    if len(orphans):
        state.spoil(slot)
    homeless: IntArray = orphans[table.function[orphans] == NOWHERE]
    return homeless


def release(state: State, slot: Slot, table: RoundTable, rows: IntArray) -> None:
    """Note that no function holds these rows any more."""
    _clear(state, table, table, rows)
    release_copies(state, slot, table, rows)


def release_copies(state: State, slot: Slot, table: RoundTable, rows: IntArray) -> None:
    """Note that these rows have no copies any more."""
    for layer in table.copies:
        _clear(state, table, layer, rows, copy=table.parts == 1)
    _tidy(state, slot, table)


def give_up(state: State, slot: Slot, table: RoundTable, rows: IntArray) -> list[Action]:
    """Drop these rows, with all their copies or parts, from wherever they are."""
    actions: list[Action] = [
        Drop(f, subset(*slot, table.clients[part]), state.generation) for f, part in holders(table, rows)
    ]
    release(state, slot, table, rows)
    return actions


def drop_copies(state: State, slot: Slot, table: RoundTable, rows: IntArray) -> list[Action]:
    """Drop the copies of these rows from wherever they are."""
    actions: list[Action] = []
    for layer in table.copies:
        for f in distinct(layer.function[rows]):
            if f != NOWHERE:
                part = rows[layer.function[rows] == f]
                actions.append(Drop(f, subset(*slot, table.clients[part]), state.generation))
    release_copies(state, slot, table, rows)
    return actions


def shed(state: State, sizes: IntArray) -> list[Action]:
    """Drop copies, the oldest first, from one function where that lets some of these objects in."""
    room = {
        f: s.free_bytes + s.copy_bytes
        for f, s in state.functions.items()
        if s.copy_bytes and not s.leaving and s.free_bytes < int(sizes.sum())
    }
    function = max(room, key=lambda f: (room[f], -f), default=NOWHERE)
    if function == NOWHERE or room[function] < int(sizes.min()):
        return []
    return shed_from(state, function, int(sizes.sum()))


def shed_from(state: State, function: int, size_bytes: int) -> list[Action]:
    """Drop copies, the oldest first, from `function` until so many bytes are free there, or no copy is left."""
    actions: list[Action] = []
    for slot in list(state.copied):
        table = state.table(slot)
        assert table is not None
        for layer in table.copies:
            missing = size_bytes - state.functions[function].free_bytes
            rows = np.flatnonzero(layer.function == function)
            if missing <= 0 or not len(rows):
                continue
            enough = int(np.searchsorted(np.cumsum(table.sizes[rows]), missing)) + 1
            part = rows[:enough]
            actions.append(Drop(function, subset(*slot, table.clients[part]), state.generation))
            _clear(state, table, layer, part, copy=True)
        state.short[slot] = None
        _tidy(state, slot, table)
    return actions


def replicate(state: State) -> list[Action]:
    """Place the copies that are lacking, as far as there is room; those that find none stay lacking."""
    actions: list[Action] = []
    staying = sum(not f.leaving for f in state.functions.values())
    if staying < 2 and staying == len(state.functions):
        return actions
    for slot in list(state.short):
        table = state.table(slot)
        assert table is not None
        if table.parts > 1:
            del state.short[slot]
            continue
        wanted = 1 + state.copies_wanted(slot)
        rows = _lacking(state, table, min(wanted, staying))
        while len(rows):
            placed = _add_copies(state, slot, table, rows)
            actions += placed
            if not placed:
                break
            rows = _lacking(state, table, min(wanted, staying))
        if not len(rows) and wanted <= staying:
            del state.short[slot]
    return actions


def demand(state: State, event: Demand) -> list[Action]:
    """Hold more or fewer copies of what `event` names than of other things."""
    actions: list[Action] = []
    for slot, table, _, _ in state.resolve(event.keys):
        before = state.copies_wanted(slot)
        state.hot.pop(slot, None)
        if event.copies > 0:
            state.hot[slot] = event.copies
        if table is None or table.parts > 1:
            continue
        if state.copies_wanted(slot) > before:
            state.short[slot] = None
            state.may_fit = True
        for layer in table.copies[state.copies_wanted(slot) :]:
            rows = np.flatnonzero(layer.function != NOWHERE)
            for f in distinct(layer.function[rows]):
                part = rows[layer.function[rows] == f]
                actions.append(Drop(f, subset(*slot, table.clients[part]), state.generation))
                _clear(state, table, layer, part, copy=True)
        if (table.copies and state.copies_wanted(slot)) or any(f.leaving for f in state.functions.values()):
            state.short[slot] = None  # a row may have had its one copy, or its one that stays, in a layer that went
            state.may_fit = True
        _tidy(state, slot, table)
    return actions


def leave(state: State, event: FunctionLeaving) -> None:
    """A function will go: it gets nothing new, and what it holds is copied to others, as far as there is room."""
    going = state.functions.get(event.function)
    if going is None:
        return
    going.leaving = state.may_fit = True
    for slot, table in state.slots():
        if table.parts == 1 and len(held_by(table, np.arange(len(table.clients)), event.function)):
            state.short[slot] = None


# --- one layer ------------------------------------------------------------------------------------------------------


def _clear(state: State, table: RoundTable, layer: Layer | RoundTable, rows: IntArray, *, copy: bool = False) -> None:
    for f in distinct(layer.function[rows]):
        if f != NOWHERE:
            size = table.bytes_each(rows[layer.function[rows] == f])
            state.functions[f].used_bytes -= size
            state.functions[f].copy_bytes -= size if copy else 0
            state.may_fit = True
    layer.function[rows] = NOWHERE
    layer.ready[rows] = False


def put(
    state: State, table: RoundTable, layer: Layer | RoundTable, rows: IntArray, function: int, generation: Any,
    ready: Any, *, copy: bool = False,
) -> None:  # fmt: skip
    """Note that `function` holds these rows, by the columns of `layer`."""
    size = table.bytes_each(rows)
    state.functions[function].used_bytes += size
    state.functions[function].copy_bytes += size if copy else 0
    layer.function[rows] = function
    layer.generation[rows] = generation
    layer.ready[rows] = ready


def put_copy(
    state: State, slot: Slot, table: RoundTable, rows: IntArray, function: int, generation: Any, ready: Any
) -> None:
    """Into the first layer that is free for all of `rows`, a new one if need be."""
    layer = next((la for la in table.copies if (la.function[rows] == NOWHERE).all()), None)
    if layer is None:
        layer = table.add_layer()
    put(state, table, layer, rows, function, generation, ready, copy=True)
    state.copied[slot] = None


def _promote(state: State, table: RoundTable, layer: Layer, rows: IntArray, function: int) -> None:
    state.functions[function].copy_bytes -= int(table.sizes[rows].sum())
    table.function[rows] = function
    table.generation[rows] = layer.generation[rows]
    table.ready[rows] = layer.ready[rows]
    layer.function[rows] = NOWHERE
    layer.ready[rows] = False


def _tidy(state: State, slot: Slot, table: RoundTable) -> None:
    while table.copies and (table.copies[-1].function == NOWHERE).all():
        table.copies.pop()
    if not table.copies:
        state.copied.pop(slot, None)
        state.striped.pop(slot, None)
        table.parts = 1


def _lacking(state: State, table: RoundTable, wanted: int) -> IntArray:
    """Rows held by fewer than `wanted` functions that stay."""
    leaving = [f for f, s in state.functions.items() if s.leaving]
    count = np.zeros(len(table.clients), dtype=np.int64)
    for layer in table.layers():
        count += (layer.function != NOWHERE) & ~np.isin(layer.function, leaving)
    return np.flatnonzero((table.wants > 0) & (table.function != NOWHERE) & (count < wanted))


def _add_copies(state: State, slot: Slot, table: RoundTable, rows: IntArray) -> list[Action]:
    """One more copy of each of `rows`, beside other copies of the slot where these are."""
    actions: list[Action] = []
    where = np.stack([layer.function[rows] for layer in table.layers()])
    kinds: dict[tuple[int, ...], list[int]] = {}
    for i, column in enumerate(where.T.tolist()):
        kinds.setdefault(tuple(sorted(f for f in column if f != NOWHERE)), []).append(i)
    for holding, members in kinds.items():
        part = rows[members]
        placed = place(state, table.sizes[part], _beside(state, slot), avoid=holding)
        for f in distinct(placed[placed != NOWHERE]):
            copied = part[placed == f]
            state.generation += 1
            put_copy(state, slot, table, copied, f, state.generation, state.instant)
            keys, size = subset(*slot, table.clients[copied]), int(table.sizes[copied].sum())
            actions.append(Load(f, keys, Source.PEER, size, state.generation, COPY_PRIORITY))
    return actions


def _beside(state: State, slot: Slot) -> int:
    """The function with most copies of what is read together with this slot, or ``NOWHERE``."""
    held: dict[int, int] = {}
    for other in companions(slot):
        table = state.table(other)
        for layer in table.copies if table is not None else ():
            for f in distinct(layer.function[layer.function != NOWHERE]):
                assert table is not None
                held[f] = held.get(f, 0) + int(table.sizes[layer.function == f].sum())
    return max(held, key=lambda f: (held[f], -f), default=NOWHERE)
