"""What readers must hear of a writer: which rounds changed, and what the persistent store may not have yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flstore.types import Key

REMEMBERED = 256
"""Ingests of which the rounds are told; a reader that missed more lists all rounds anew."""
MOST_KEYS = 4096
"""Objects that are told one by one; above that, only their rounds are."""


@dataclass(slots=True)
class _Arrival:
    round: int
    keys: tuple[Key, ...]
    writes: tuple[Future[Any], ...] | None = None

    @property
    def durable(self) -> bool:
        return self.writes is not None and all(w.done() and w.exception() is None for w in self.writes)


class News:
    """What an ingesting store tells. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._touched: deque[tuple[int, int]] = deque(maxlen=REMEMBERED)
        self._arrivals: list[_Arrival] = []

    @contextmanager
    def taking_in(self, round: int, keys: Iterable[Key]) -> Iterator[_Arrival]:
        """Tell of an arrival before anything of it is stored; its writes are to be noted in what this yields."""
        arrival = _Arrival(round, tuple(keys))
        with self._lock:
            self._version += 1
            self._touched.append((self._version, round))
            self._arrivals.append(arrival)
        try:
            yield arrival
        except BaseException:
            if arrival.writes is None:
                arrival.writes = ()
            raise

    def values(self) -> dict[str, Any]:
        """As plain values.

        Returns
        -------
        dict
            ``version``: grows with every arrival. ``touched``: the last versions, each with its round. ``waiting``:
            what is not durable yet, as ``[kind, round, client]``. ``many``: rounds with more of it than are told.
        """
        with self._lock:
            self._arrivals = [arrival for arrival in self._arrivals if not arrival.durable]
            waiting: list[list[Any]] = []
            many: list[int] = []
            for arrival in self._arrivals:
                if len(waiting) + len(arrival.keys) > MOST_KEYS:
                    many.append(arrival.round)
                else:
                    waiting += [[int(key.kind), key.round, key.client] for key in arrival.keys]
            return {
                "version": self._version, "touched": [list(t) for t in self._touched], "waiting": waiting,
                "many": sorted(set(many)),
            }  # fmt: skip
