"""What policies may see of the state that the engine decides on."""

from __future__ import annotations

import bisect

import numpy as np
from numpy.typing import NDArray

from flstore.engine.single import find
from flstore.engine.state import FunctionState, State
from flstore.engine.table import NOWHERE
from flstore.types import NO_CLIENT, IntArray, KeySet, Kind


class View:
    """What a policy may see of the state: what exists and what is held, in logical terms.

    Parameters
    ----------
    state : State
        The engine's own, which is only read.
    """

    def __init__(self, state: State) -> None:
        self._state = state

    def latest(self, job: int, kind: Kind = Kind.UPDATE) -> int | None:
        """The newest round with objects of `kind`."""
        rounds = self._state.rounds.get((job, kind))
        return rounds[-1] if rounds else None

    def rounds(self, job: int, first: int, last: int, kind: Kind = Kind.UPDATE) -> list[int]:
        """Existing rounds from `first` to `last`, both included, ascending."""
        rounds = self._state.rounds.get((job, kind), [])
        return rounds[bisect.bisect_left(rounds, first) : bisect.bisect_right(rounds, last)]

    def newest(self, job: int, count: int, kind: Kind) -> list[int]:
        """The last `count` rounds that exist, ascending."""
        return self._state.rounds.get((job, kind), [])[-count:]

    def next_round(self, job: int, round: int) -> int | None:
        """The first existing round after `round`."""
        rounds = self._state.rounds.get((job, Kind.UPDATE), [])
        at = bisect.bisect_right(rounds, round)
        return rounds[at] if at < len(rounds) else None

    def jobs(self, kind: Kind) -> list[int]:
        """Jobs that have objects of `kind`."""
        return [job for job, k in self._state.rounds if k is kind]

    def participants(self, job: int, round: int, kind: Kind = Kind.UPDATE) -> IntArray:
        """Clients with an object of `kind` in `round`. Not to be changed."""
        table = self._state.table((job, kind, round))
        return table.clients if table is not None else np.empty(0, dtype=np.int64)

    def next_participation(self, job: int, client: int, round: int) -> int | None:
        """The first round after `round` in which `client` took part."""
        chain = self._state.participations(job, client)
        at = bisect.bisect_right(chain, round)
        return chain[at] if at < len(chain) else None

    def previous_participation(self, job: int, client: int, round: int) -> int | None:
        """The last round before `round` in which `client` took part."""
        chain = self._state.participations(job, client)
        at = bisect.bisect_left(chain, round)
        return chain[at - 1] if at > 0 else None

    def held(self, keys: KeySet) -> NDArray[np.bool_]:
        """Whether each object is held by a function, ready or not."""
        held: NDArray[np.bool_] = self._state.where(keys) != NOWHERE
        return held

    def size(self, keys: KeySet) -> IntArray:
        """Bytes of each object; 0 where it does not exist."""
        found = find(self._state, keys)
        if found is not None:
            return found[1].sizes[found[2] : found[2] + 1].copy()
        parts = [
            np.where(rows >= 0, table.sizes[rows], 0) if table is not None else np.zeros(len(rows), dtype=np.int64)
            for _, table, _, rows in self._state.resolve(keys)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def aggregate(self, job: int, round: int) -> bool:
        """Whether the aggregate of `round` exists."""
        table = self._state.table((job, Kind.AGGREGATE, round))
        return table is not None and NO_CLIENT in table.clients

    @property
    def free_bytes(self) -> int:
        """Logical bytes that all functions together have left, less what the copies need (at least 0)."""
        held = sum(f.used_bytes - f.copy_bytes for f in self._functions())
        return max(0, self.capacity_bytes - held)

    @property
    def capacity_bytes(self) -> int:
        """Logical bytes of all functions together, for objects of which each has its copies."""
        functions = self._functions()
        if len(functions) == 1:
            return functions[0].capacity_bytes
        copies = min(self._state.replicas, max(0, len(functions) - 1))
        return sum(f.capacity_bytes for f in functions) // (1 + copies)

    @property
    def largest_function_bytes(self) -> int:
        """Capacity of the largest function: no object above it can be held."""
        return max((f.capacity_bytes for f in self._functions()), default=0)

    def _functions(self) -> list[FunctionState]:
        return [f for f in self._state.functions.values() if not f.leaving]
