"""Asks the policy, and takes nothing from it that could stop the engine half way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flstore.engine.state import State
from flstore.engine.view import View
from flstore.errors import PolicyError
from flstore.types import Derive, Event, KeySet, Unwant, Want

if TYPE_CHECKING:
    from flstore.policies.base import Policy


def ask(policy: Policy, event: Event, state: State) -> list[Want | Unwant | Derive]:
    """All that the policy says about `event`.

    Raises
    ------
    PolicyError
        It raised, or returned something that the engine cannot take.
    """
    try:
        wants = list(policy.decide(event, View(state)))
    except Exception as error:
        raise PolicyError(f"policy {policy.name!r} raised {error!r} on {event}") from error
    for want in wants:
        if wrong := _wrong(want):
            raise PolicyError(f"policy {policy.name!r} returned {want!r} on {event}; {wrong}")
    return wants


def _wrong(want: object) -> str | None:
    """Why the engine cannot take this; what gets by here cannot stop it half way."""
    if type(want) is Want and type(want.keys) is KeySet and type(want.owner) is str and type(want.priority) is int:
        return None  # as a rule, and quickly
    if not isinstance(want, Want | Unwant | Derive):
        return "only Want, Unwant and Derive are known"
    if not isinstance(want.keys, KeySet) and not (want.keys is None and isinstance(want, Unwant)):
        return f"its keys are {type(want.keys).__name__}, not a KeySet"
    if isinstance(want, Derive):
        return None
    if isinstance(want, Want) and not isinstance(want.priority, int):
        return f"its priority is {type(want.priority).__name__}, not int"
    try:
        hash(want.owner)
    except TypeError:
        return "its owner cannot be hashed"
    return None
