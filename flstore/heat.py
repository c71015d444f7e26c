"""Hot rounds: while requests for a round queue, it gets more copies; when they stop, it loses them again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from flstore.engine.state import State
from flstore.types import Demand, Event, KeySet, Kind, Requested

QUEUE = 4
"""Requests under way for a round, for each function that holds it, above which it is hot."""
COOL_S = 10.0
"""Seconds without a request for a round after which its further copies go."""


class Heat:
    """Counts the requests under way by round, and asks the engine for copies. Used on the event loop alone.

    Parameters
    ----------
    state : State
        How many copies there are, and how many functions.
    report : callable
        Takes the event ``Demand``.
    """

    def __init__(self, state: State, report: Callable[[Event], Any]) -> None:
        self._state = state
        self._report = report
        self._under_way: Counter[tuple[int, int]] = Counter()
        self._copies: dict[tuple[int, int], int] = {}
        self._keys: dict[tuple[int, int], dict[KeySet, None]] = {}
        self._cooling: dict[tuple[int, int], asyncio.TimerHandle] = {}

    def begin(self, event: Requested) -> None:
        """A request is under way."""
        where = _round(event)
        if where is None:
            return
        self._under_way[where] += 1
        cooling = self._cooling.pop(where, None)
        if cooling is not None:
            cooling.cancel()
        copies = self._copies.get(where, 0)
        holders = 1 + self._state.replicas + copies
        staying = sum(not f.leaving for f in list(self._state.functions.values()))
        if self._under_way[where] > QUEUE * holders and holders < staying:
            self._copies[where] = copies + 1
            known = self._keys.setdefault(where, {})
            known.update(dict.fromkeys(keys for keys in event.keys if keys.kind is not Kind.METADATA))
            for keys in known:
                self._report(Demand(keys, copies + 1))

    def end(self, event: Requested) -> None:
        """A request was answered, or failed."""
        where = _round(event)
        if where is None:
            return
        self._under_way[where] -= 1
        if not self._under_way[where]:
            del self._under_way[where]
            if where in self._copies:
                self._cooling[where] = asyncio.get_running_loop().call_later(COOL_S, self._cool, where)

    def _cool(self, where: tuple[int, int]) -> None:
        self._cooling.pop(where, None)
        self._copies.pop(where, None)
        for keys in self._keys.pop(where, {}):
            self._report(Demand(keys, 0))


def _round(event: Requested) -> tuple[int, int] | None:
    """The round that a request reads as a whole, None for a request about one client or about metadata."""
    if event.round is None or event.client is not None or all(k.kind is Kind.METADATA for k in event.keys):
        return None
    return event.job, event.round
