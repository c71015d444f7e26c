"""Time in a replay: when loads are done, and how long a request waits and fetches."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flstore.cost import Link, Links, load_links
from flstore.errors import InvalidParameterError
from flstore.types import Action, KeySet, Load, Loaded, Source


@dataclass
class Clock:
    """One function behind one link; prefetches wait for each other, a request's own fetch waits for nobody.

    A fetch of n objects over c connections takes ``ceil(n / c)`` first-byte latencies and its bytes at the bandwidth of
    these connections, as in :func:`flstore.cost.price`. What is ingested comes with its round and is there at once.

    Parameters
    ----------
    link : Link
        Between the persistent store and the function.
    connections : int
        Fetches at the same time.
    """

    link: Link
    connections: int
    now_s: float = 0.0
    _free_at_s: float = 0.0
    _under_way: list[tuple[float, int, Loaded]] = field(default_factory=list)
    _count: int = 0

    def takes_s(self, objects: int, size_bytes: float) -> float:
        """Seconds of one fetch."""
        if objects == 0:
            return 0.0
        rate = min(min(objects, self.connections) * self.link.connection_bytes_s, self.link.bandwidth_bytes_s)
        return math.ceil(objects / self.connections) * self.link.latency_s + size_bytes / rate

    def advance(self, now_s: float) -> Iterator[Loaded]:
        """Go on to `now_s`; what was loaded until then, in the order in which it arrived."""
        self.now_s = max(self.now_s, now_s)
        while self._under_way and self._under_way[0][0] <= self.now_s:
            yield heapq.heappop(self._under_way)[2]

    def start(self, actions: Iterable[Action], fetched: list[KeySet], fetch_s: float) -> None:
        """Begin the loads among `actions`. What is in `fetched` comes with the request's own fetch.

        The rest is prefetched, one load after the other, the most urgent first.
        """
        prefetches: list[tuple[Load, KeySet, int]] = []
        for action in actions:
            if not isinstance(action, Load):
                continue
            if action.source is not Source.STORE:
                self._arrives(action, action.keys, self.now_s)
                continue
            mine = _among(action.keys, fetched)
            for keys, mask in ((_part(action.keys, mask), mask) for mask in (mine, ~mine) if mask.any()):
                if mask is mine:
                    self._arrives(action, keys, self.now_s + fetch_s)
                else:
                    share = round(action.size_bytes * len(keys) / len(action.keys))
                    prefetches.append((action, keys, share))
        for load, keys, size_bytes in sorted(prefetches, key=lambda p: -p[0].priority):
            self._free_at_s = max(self._free_at_s, self.now_s) + self.takes_s(len(keys), size_bytes)
            self._arrives(load, keys, self._free_at_s)

    def wait_s(self, late: list[KeySet]) -> float:
        """Until the last of these, which are on their way, is there."""
        done = [at for at, _, loaded in self._under_way if late and _among(loaded.keys, late).any()]
        return max(done, default=self.now_s) - self.now_s

    def _arrives(self, load: Load, keys: KeySet, at_s: float) -> None:
        self._count += 1
        heapq.heappush(self._under_way, (at_s, self._count, Loaded(load.function, keys, load.generation)))


def link_of(link: str | Link, links: Links | None = None) -> Link:
    """A link by name, or the given one."""
    return link if isinstance(link, Link) else (links or load_links())[link]


def service_of(service_s: float | Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """Seconds of computing, by workload.

    Raises
    ------
    InvalidParameterError
        A workload of the trace is missing, or seconds are negative or not finite.
    """
    found = {}
    for name in names:
        if isinstance(service_s, Mapping) and name not in service_s:
            known = ", ".join(sorted(service_s)) or "none"
            raise InvalidParameterError(f"service_s has no seconds for workload {name!r}; it has: {known}")
        seconds = service_s[name] if isinstance(service_s, Mapping) else service_s
        if not (math.isfinite(seconds) and seconds >= 0):
            raise InvalidParameterError(f"service_s of {name!r} must be at least 0 seconds, got {seconds!r}")
        found[name] = float(seconds)
    return found


def _among(keys: KeySet, others: list[KeySet]) -> NDArray[np.bool_]:
    """Which of `keys` are in one of `others`."""
    rounds, clients = _axes(keys)
    found = np.zeros(len(keys), dtype=np.bool_)
    for other in others:
        if (other.job, other.kind) == (keys.job, keys.kind):
            their_rounds, their_clients = _axes(other)
            for round in np.unique(their_rounds):
                found |= (rounds == round) & np.isin(clients, their_clients[their_rounds == round])
    return found


def _axes(keys: KeySet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n = len(keys)
    return np.broadcast_to(keys.rounds, n), np.broadcast_to(keys.clients, n)


def _part(keys: KeySet, mask: NDArray[np.bool_]) -> KeySet:
    if isinstance(keys.rounds, np.ndarray):
        return KeySet(keys.job, keys.kind, keys.rounds[mask], keys.clients)
    assert isinstance(keys.clients, np.ndarray)
    return KeySet(keys.job, keys.kind, keys.rounds, keys.clients[mask])
