"""The transition function: one event and the state in, actions out.

``step`` changes only the state that it is given (and what the policy remembers), does no input or output, reads no
clock and draws no random number. The live store and the simulator both run it, and nothing else decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from flstore.engine import derived
from flstore.engine.changes import classify, disband, forget, join, lose, mark_ready, refresh, revive
from flstore.engine.copies import demand, leave, subset
from flstore.engine.removal import delete
from flstore.engine.room import await_room, drop, fill
from flstore.engine.state import State
from flstore.engine.table import NOWHERE, Layer, RoundTable, distinct
from flstore.engine.view import View
from flstore.engine.wants import Slot
from flstore.errors import PolicyError
from flstore.types import (
    Action,
    Counts,
    Deleted,
    Demand,
    Derive,
    Event,
    FunctionJoined,
    FunctionLeaving,
    FunctionLost,
    Group,
    Ingested,
    IntArray,
    KeySet,
    Loaded,
    LoadFailed,
    Refused,
    Requested,
    Run,
    Unwant,
    Want,
)  # fmt: skip

if TYPE_CHECKING:
    from flstore.policies.base import Policy


def step(state: State, policy: Policy, event: Event) -> list[Action]:
    """Apply `event` and return what has to be done about it, in order.

    Parameters
    ----------
    state : State
        Changed in place.
    policy : Policy
        Asked once, after the event was noted, unless the event only reports on a load.
    event : Event
        What happened.

    Returns
    -------
    list of Action
        Drops, loads and refusals, then the run of a request.

    Raises
    ------
    PolicyError
        The policy raised, or returned something that is neither a want nor an unwant.
    """
    actions, counts = settle(state, policy, event)
    if isinstance(event, Requested):
        actions.append(reroute(state, event, counts))
    return actions


def settle(state: State, policy: Policy, event: Event) -> tuple[list[Action], Counts]:
    """:func:`step` without choosing where a request runs, which changes nothing: for whoever only counts."""
    counts = Counts()
    if isinstance(event, Loaded):
        mark_ready(state, event)
        return [], counts
    drops: list[Action] = []
    ingested: Slot | None = None
    if isinstance(event, Ingested):
        assert isinstance(event.keys.rounds, int)
        drops = refresh(state, event)
        ingested = (event.keys.job, event.keys.kind, event.keys.rounds)
    elif isinstance(event, Requested):
        counts = classify(state, event.keys)
        if counts.misses or state.bereft:
            revive(state, event.keys)
    elif isinstance(event, LoadFailed):
        drops = forget(state, event)
    elif isinstance(event, FunctionJoined):
        drops = join(state, event)
    elif isinstance(event, FunctionLost):
        drops = lose(state, event)
    elif isinstance(event, FunctionLeaving):
        leave(state, event)
        drops = disband(state, event.function)
    elif isinstance(event, Demand):
        drops = demand(state, event)
    elif isinstance(event, Deleted):
        drops += delete(state, event)
    wants = _ask(policy, event, state)
    if wants or state.may_fit or state.underived:
        drops += _apply(state, wants, ingested)
    return drops, counts


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


# --- asking the policy ----------------------------------------------------------------------------------------------


def _ask(policy: Policy, event: Event, state: State) -> list[Want | Unwant | Derive]:
    try:
        wants = list(policy.decide(event, View(state)))
    except Exception as error:
        raise PolicyError(f"policy {policy.name!r} raised {error!r} on {event}") from error
    for want in wants:
        if not isinstance(want, Want | Unwant | Derive):
            known = "only Want, Unwant and Derive are known"
            raise PolicyError(f"policy {policy.name!r} returned {want!r} on {event}; {known}")
    return wants


def _apply(state: State, wants: Iterable[Want | Unwant | Derive], ingested: Slot | None) -> list[Action]:
    """Count the wants, drop what nobody wants any more, then find room for what is newly wanted."""
    touched: list[tuple[Slot, IntArray]] = []
    actions: list[Action] = []
    for want in wants:
        if isinstance(want, Want):
            actions += _count_want(state, want, ingested)
        elif isinstance(want, Derive):
            derived.note(state, want)
        else:
            touched += _count_unwant(state, want)
    actions += drop(state, touched)
    if state.may_fit and (state.waiting or state.short):
        actions += fill(state)
    if state.underived:
        actions += derived.prepare(state)
    return actions


def _count_want(state: State, want: Want, ingested: Slot | None) -> list[Action]:
    refused: list[Action] = []
    for slot, table, clients, rows in state.resolve(want.keys):
        if len(rows) == 1 and table is not None and rows[0] >= 0:
            _count_one(state, want, slot, table, rows, ingested)
            continue
        unknown = rows < 0
        if unknown.any() or table is None:
            refused.append(Refused(subset(*slot, clients[unknown]), "there is no such object"))
            rows = rows[~unknown]
            if table is None or not len(rows):
                continue
        new = state.ledger.add(want.owner, slot, rows)
        unwanted = table.wants[new] == 0
        first = new if unwanted.all() else new[unwanted]
        table.priority[first] = want.priority
        table.by_client[first] = want.group is Group.CLIENT
        if first is not new:
            table.priority[new] = np.maximum(table.priority[new], want.priority)
        table.wants[new] += 1
        homeless = new[table.function[new] == NOWHERE]
        if len(homeless):
            await_room(state, slot, homeless, ingested=slot == ingested)
    return refused


def _count_one(state: State, want: Want, slot: Slot, table: RoundTable, rows: IntArray, ingested: Slot | None) -> None:
    """The same for one object, without arrays."""
    if not len(state.ledger.add(want.owner, slot, rows)):
        return
    row = int(rows[0])
    first = not table.wants[row]
    if first:
        table.by_client[row] = want.group is Group.CLIENT
    if first or table.priority[row] < want.priority:
        table.priority[row] = want.priority
    table.wants[row] += 1
    if table.function[row] == NOWHERE:
        await_room(state, slot, rows, ingested=slot == ingested)


def _count_unwant(state: State, unwant: Unwant) -> list[tuple[Slot, IntArray]]:
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
