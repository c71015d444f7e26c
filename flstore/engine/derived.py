"""What shall be computed before anybody asks: decided once all that it reads is on one function."""

from __future__ import annotations

import numpy as np

from flstore.engine.copies import subset
from flstore.engine.state import State
from flstore.engine.table import NOWHERE, distinct
from flstore.types import Action, Derive, Prepare


def note(state: State, derive: Derive) -> None:
    """Remember what a policy asks for, for each round of its keys."""
    for slot, table, _, _ in state.resolve(derive.keys):
        if table is not None:
            state.derived.setdefault(slot, {})[derive.what] = None
            state.underived[slot] = None


def prepare(state: State) -> list[Action]:
    """Have it computed where one function holds all that is wanted of a round; the other rounds wait until one does."""
    actions: list[Action] = []
    for slot in list(state.underived):
        table = state.table(slot)
        wanted = np.flatnonzero(table.wants > 0) if table is not None else np.empty(0, dtype=np.int64)
        if table is None or not len(wanted):
            state.derived.pop(slot, None)
            del state.underived[slot]
            continue
        where = distinct(table.function[wanted])
        if len(where) == 1 and where[0] != NOWHERE and table.parts == 1:
            del state.underived[slot]
            keys = subset(*slot, table.clients[wanted])
            actions += [Prepare(where[0], keys, what) for what in state.derived[slot]]
    return actions
