"""The transition function: one event and the state in, actions out.

``step`` changes only the state that it is given (and what the policy remembers), does no input or output, reads no
clock and draws no random number. The live store and the simulator both run it, and nothing else decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from flstore.engine import derived
from flstore.engine.asking import ask
from flstore.engine.changes import classify, disband, forget, join, lose, mark_ready, refresh, revive
from flstore.engine.copies import demand, leave, subset
from flstore.engine.removal import delete
from flstore.engine.room import await_room, drop, fill
from flstore.engine.routing import reroute
from flstore.engine.single import classify_one, find, unwant_one, want_one
from flstore.engine.state import State
from flstore.engine.table import NOWHERE
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
    Loaded,
    LoadFailed,
    Refused,
    Requested,
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
        The policy raised, or returned something that is neither a want nor an unwant. The event was applied all the
        same, as if the policy had said nothing; the error has the actions.
    """
    known = state.standing.get(event.keys) if isinstance(event, Requested) else None
    actions, counts, failed = _settled(state, policy, event, None if known is None else known.counts)
    if isinstance(event, Requested):
        if known is not None and state.standing.get(event.keys) is known:
            run = dataclasses.replace(known.run, request=event.request)
        else:
            run = reroute(state, event, counts)
            if not actions and not counts.misses:
                state.standing.note(event.keys, counts, run)
        actions.append(run)
    return _told(actions, failed)


def settle(state: State, policy: Policy, event: Event) -> tuple[list[Action], Counts]:
    """:func:`step` without choosing where a request runs, which changes nothing: for whoever only counts.

    Parameters
    ----------
    state : State
        Is changed.
    policy : Policy
        Decides.
    event : Event
        What happened.
    """
    actions, counts, failed = _settled(state, policy, event)
    return _told(actions, failed), counts


def _settled(
    state: State, policy: Policy, event: Event, counts: Counts | None = None
) -> tuple[list[Action], Counts, PolicyError | None]:
    """What follows from an event, how what it asks for stood (`counts`, where known), and what the policy did wrong.

    Findings about requests stand as long as nothing changes.
    """
    actions: list[Action] = []
    ingested: Slot | None = None
    if isinstance(event, Requested):
        if counts is None:
            one = classify_one(state, event.keys[0]) if len(event.keys) == 1 else None
            counts = classify(state, event.keys) if one is None else one
            if counts.misses or state.bereft:
                state.standing.clear()
                revive(state, event.keys)
    else:
        state.standing.clear()
        counts = Counts()
        if isinstance(event, Loaded):
            mark_ready(state, event)
            return actions, counts, None
        if isinstance(event, Ingested):
            assert isinstance(event.keys.rounds, int)
            ingested = (event.keys.job, event.keys.kind, event.keys.rounds)
        actions += _noted(state, policy, event)
    failed: PolicyError | None = None
    wants: list[Want | Unwant | Derive] = []
    try:
        wants = ask(policy, event, state)
    except PolicyError as error:
        failed = error
    if wants or state.underived or (state.may_fit and (state.waiting or state.short)):
        state.standing.clear()
        actions += _apply(state, wants, ingested)
    return actions, counts, failed


def _noted(state: State, policy: Policy, event: Event) -> list[Action]:
    """Take over what an event says that is neither a request nor a load's completion."""
    if isinstance(event, Ingested):
        return refresh(state, event)
    if isinstance(event, LoadFailed):
        return forget(state, event)
    if isinstance(event, FunctionJoined):
        return join(state, event, policy.share)
    if isinstance(event, FunctionLost):
        return lose(state, event)
    if isinstance(event, FunctionLeaving):
        leave(state, event)
        return disband(state, event.function)
    if isinstance(event, Demand):
        return demand(state, event)
    if isinstance(event, Deleted):
        return list(delete(state, event))
    return []


def _told(actions: list[Action], failed: PolicyError | None) -> list[Action]:
    """The actions; in the error, where there is one."""
    if failed is None:
        return actions
    failed.actions = tuple(actions)
    raise failed


# --- what the policy said ---------------------------------------------------------------------------------------------


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
    found = find(state, want.keys)
    if found is not None:
        homeless = want_one(state, want, *found)
        if homeless is not None:
            await_room(state, found[0], homeless, ingested=found[0] == ingested)
        return refused
    for slot, table, clients, rows in state.resolve(want.keys):
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


def _count_unwant(state: State, unwant: Unwant) -> list[tuple[Slot, IntArray]]:
    if unwant.keys is None:
        removed = state.ledger.remove_all(unwant.owner)
    elif (found := find(state, unwant.keys)) is not None:
        touched = unwant_one(state, unwant, *found)
        return [] if touched is None else [touched]
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
