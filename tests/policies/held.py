"""One unlimited cache function under a policy, and the set of what it holds: what the tests of the classes look at."""

from __future__ import annotations

import numpy as np

from flstore import policies
from flstore.engine import State, step
from flstore.policies import Policy
from flstore.policies.taxonomy import CLASS_OF
from flstore.types import NO_CLIENT, Event, FunctionJoined, Ingested, KeySet, Kind, PolicyClass, Requested

U, A, M = Kind.UPDATE, Kind.AGGREGATE, Kind.METADATA


class Engine:
    """One unlimited function, and the set of what it holds."""

    def __init__(self, policy: str | Policy, capacity: int = 10**9, **params: int | str) -> None:
        self.state, self.policy = State(instant=True), policies.make(policy, **params)
        self.apply(FunctionJoined(0, capacity, "x"))

    def apply(self, event: Event) -> None:
        step(self.state, self.policy, event)

    def ingest(self, kind: Kind, round: int, *clients: int, job: int = 0, size: int = 1) -> None:
        keys = KeySet.of_round(job, kind, round, clients or [NO_CLIENT])
        self.apply(Ingested(keys, np.full(len(keys), size, dtype=np.int64)))

    def ask(self, *keys: KeySet, workload: str = "clustering") -> None:
        round = keys[0].rounds if isinstance(keys[0].rounds, int) else None
        self.apply(Requested(1, keys[0].job, workload, CLASS_OF[workload], round, None, keys))

    def ask_round(self, round: int, *clients: int, workload: str = "clustering", job: int = 0) -> None:
        kind = M if CLASS_OF[workload] is PolicyClass.P4 else U
        self.ask(KeySet.of_round(job, kind, round, clients), workload=workload)

    def held(self, kind: Kind, job: int = 0) -> dict[int, list[int]]:
        """Clients of each round."""
        found = {f: h for f, h in self.state.holdings().items() if h}
        return {r: c.tolist() for h in found.values() for (j, k, r), c in h.items() if (j, k) == (job, kind)}

    def rounds(self, kind: Kind, job: int = 0) -> list[int]:
        return sorted(self.held(kind, job))


def lineage(client: int, *rounds: int, job: int = 0) -> KeySet:
    """What a request for the history of one client reads."""
    return KeySet.of_client(job, U, client, rounds)
