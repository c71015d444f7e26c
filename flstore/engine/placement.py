"""Which function a wanted object goes to: together with its group where there is room, else where most room is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from flstore.engine.state import State
from flstore.engine.table import NOWHERE, RoundTable, distinct
from flstore.engine.wants import Slot
from flstore.types import NO_CLIENT, Group, IntArray, Kind


def home(state: State, slot: Slot, group: Group, row: int) -> int:
    """The function where the group of this object already sits, or ``NOWHERE``.

    An aggregate belongs to the round that starts from it, so that a delta (update minus that aggregate) needs one
    function. Metadata of consecutive rounds belong together, because they are read together.
    """
    job, kind, round = slot
    if kind is Kind.METADATA:
        rounds = state.rounds[job, kind]
        at = rounds.index(round) if rounds[-1] != round else len(rounds) - 1
        near: list[Slot] = [(job, kind, r) for r in (round, *rounds[max(0, at - 1) : at + 2])]
        return _fullest(state, near)
    if group is Group.CLIENT and kind is Kind.UPDATE:
        return _client_home(state, slot, row)
    return _fullest(state, companions(slot))


def companions(slot: Slot) -> list[Slot]:
    """A round's updates and the aggregate that they started from; for metadata nothing but itself."""
    job, kind, round = slot
    if kind is Kind.METADATA:
        return [slot]
    start = round + 1 if kind is Kind.AGGREGATE else round
    return [(job, Kind.UPDATE, start), (job, Kind.AGGREGATE, start - 1)]


def place(state: State, sizes: IntArray, near: int, avoid: Iterable[int] = ()) -> IntArray:
    """A function for each object, ``NOWHERE`` where none has room. Functions in `avoid`, or leaving, get nothing.

    All on `near` if they fit, else all on the emptiest function that takes them, else spread, in order.
    """
    placed = np.full(len(sizes), NOWHERE, dtype=np.int64)
    free = {f: s.free_bytes for f, s in state.functions.items() if f not in avoid and not s.leaving}
    total = int(sizes.sum())
    emptiest = max(free, key=lambda f: (free[f], -f), default=NOWHERE)
    for candidate in (near, emptiest):
        if candidate in free and total <= free[candidate]:
            placed[:] = candidate
            return placed
    current = near if near in free else emptiest
    for i, size in enumerate(sizes.tolist()):
        if current not in free or size > free[current]:
            current = max(free, key=lambda f: (free[f], -f), default=NOWHERE)
        if current in free and size <= free[current]:
            placed[i] = current
            free[current] -= size
    return placed


def _bytes_by_function(table: RoundTable | None, into: dict[int, int]) -> None:
    if table is None:
        return
    held = table.function != NOWHERE
    for f in distinct(table.function[held]):
        into[f] = into.get(f, 0) + int(table.sizes[table.function == f].sum())


def _fullest(state: State, slots: list[Slot]) -> int:
    held: dict[int, int] = {}
    for slot in slots:
        _bytes_by_function(state.table(slot), held)
    return max(held, key=lambda f: (held[f], -f), default=NOWHERE)


def _client_home(state: State, slot: Slot, row: int) -> int:
    job, kind, round = slot
    table = state.table(slot)
    assert table is not None
    client = int(table.clients[row])
    if client == NO_CLIENT:
        return NOWHERE
    chain = state.participations(job, client)
    at = chain.index(round)
    for neighbour in (chain[at - 1] if at else None, chain[at + 1] if at + 1 < len(chain) else None):
        other = state.table((job, kind, neighbour)) if neighbour is not None else None
        if other is not None:
            function = int(other.function[other.rows(np.array([client]))[0]])
            if function != NOWHERE:
                return function
    return NOWHERE
