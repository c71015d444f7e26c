"""Which function a request runs on, and where it finds what it needs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flstore.engine.copies import subset
from flstore.engine.state import State
from flstore.engine.table import NOWHERE, Layer, RoundTable, distinct
from flstore.engine.wants import Slot
from flstore.types import Counts, IntArray, KeySet, Requested, Run


def reroute(
    state: State,
    event: Requested,
    counts: Counts = Counts(),  # noqa: B008 (frozen)
    avoid: frozenset[int] = frozenset(),
    busy: Mapping[int, int] | None = None,
) -> Run:
    """Choose the function for a request from what is held now; changes nothing.

    The function that holds most of its bytes, or the emptiest one when nothing is held. Functions in `avoid` (they do
    not answer at the moment) are passed over, and what they alone hold counts as missing. With `busy` (requests under
    way by function; known live only) the least busy of equals is chosen, and copies count when they are loaded.

    Parameters
    ----------
    state : State
        Where everything is.
    event : Requested
        The request.
    counts : Counts
        Its hits and misses, which go into the result.
    avoid : frozenset of int
        Functions that do not answer.
    busy : dict of int to int, optional
        Requests under way, by function.
    """
    found = [part for keys in event.keys for part in state.resolve(keys)]
    if not avoid and busy is None and (only := _only_holder(state, found)) is not None:
        everything = tuple((only, subset(*slot, clients)) for slot, _, clients, _ in found)
        return Run(event.request, only, everything, (), counts)
    weight: dict[int, int] = {}
    first: dict[int, int] = {}
    for _, table, _, rows in found:
        for layer in table.layers() if table is not None else ():
            assert table is not None
            where = _where(layer, rows, loaded=busy is not None and layer is not table)
            for f in distinct(where):
                if f != NOWHERE and f not in avoid:
                    size = table.bytes_each(rows[where == f])
                    weight[f] = weight.get(f, 0) + size
                    if layer is table:
                        first[f] = first.get(f, 0) + size
    load = busy or {}
    if weight:
        stays = {f: not state.functions[f].leaving for f in weight}
        function = max(weight, key=lambda f: (weight[f], stays[f], -load.get(f, 0), first.get(f, 0), -f))
    else:
        free = {f: s.free_bytes for f, s in state.functions.items() if f not in avoid and not s.leaving}
        function = max(free, key=lambda f: (-load.get(f, 0), free[f], -f), default=NOWHERE)
    held: dict[int, list[KeySet]] = {}
    missing: list[KeySet] = []
    for (job, kind, round), table, clients, rows in found:
        if table is not None and table.parts > 1:
            _locate_parts(state, (job, kind, round), table, rows, avoid, held, missing)
            if (rows >= 0).all():
                continue
            clients, rows = clients[rows < 0], rows[rows < 0]
        where = _locate(table, rows, function, avoid, loaded=busy is not None)
        for f in distinct(where):
            part = subset(job, kind, round, clients[where == f])
            if f == NOWHERE:
                missing.append(part)
            else:
                held.setdefault(f, []).append(part)
    by_function = tuple((f, keys) for f in sorted(held) for keys in held[f])
    return Run(event.request, function, by_function, tuple(missing), counts)


def _only_holder(state: State, found: list[tuple[Slot, RoundTable | None, IntArray, IntArray]]) -> int | None:
    """The primary of all of these objects and of each in whole, if it stays: as a rule there is one."""
    holder = None
    for _, table, _, rows in found:
        if table is None or table.parts > 1 or not len(rows) or rows.min() < 0:
            return None
        first = int(table.function[rows[0]])
        if first == NOWHERE or first != (first if holder is None else holder):
            return None
        if len(rows) > 1 and (table.function[rows] != first).any():
            return None
        holder = first
    return None if holder is None or state.functions[holder].leaving else holder


def _where(layer: Layer | RoundTable, rows: IntArray, *, loaded: bool = False) -> IntArray:
    """The function that this layer places each row on, ``NOWHERE`` also for a row that is unknown."""
    if len(rows) == 1 and not loaded:
        return layer.function[rows] if rows[0] >= 0 else rows
    there = (rows >= 0) & layer.ready[rows] if loaded else rows >= 0
    where: IntArray = np.where(there, layer.function[rows], NOWHERE)
    return where


def _locate(
    table: RoundTable | None, rows: IntArray, function: int, avoid: frozenset[int], *, loaded: bool
) -> IntArray:
    """Where a request that runs on `function` finds each row: there, at its primary, at a copy, or nowhere."""
    if table is None or not len(table.clients):
        return np.full(len(rows), NOWHERE, dtype=np.int64)
    where = _where(table, rows)
    if avoid:
        where = np.where(np.isin(where, list(avoid)), NOWHERE, where)
    for layer in table.copies:
        copies = _where(layer, rows, loaded=loaded)
        if avoid:
            copies = np.where(np.isin(copies, list(avoid)), NOWHERE, copies)
        where = np.where((where == NOWHERE) | (copies == function), copies, where)
    return where


def _locate_parts(
    state: State, slot: Slot, table: RoundTable, rows: IntArray, avoid: frozenset[int],
    held: dict[int, list[KeySet]], missing: list[KeySet],
) -> None:  # fmt: skip
    """Note the parts of what is held in parts with every function that has one; without one of them all is missing."""
    rows = rows[rows >= 0]
    there = table.function[rows] != NOWHERE
    functions = state.striped[slot]
    if avoid.intersection(functions):
        there = np.zeros(len(rows), dtype=np.bool_)
    if there.any():
        for f in functions:
            held.setdefault(f, []).append(subset(*slot, table.clients[rows[there]]))
    if not there.all():
        missing.append(subset(*slot, table.clients[rows[~there]]))
