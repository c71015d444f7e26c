"""The words that all parts share: keys and key sets, events, wants, actions, requests and results.

Two ways to name data. A :class:`Key` names one object as people and stores do, with the ids as they were given. A
:class:`KeySet` names many objects of one round, or of one client, with ids interned to integers: the engine and the
policies speak in key sets, so that one event costs one call for ten clients or a hundred thousand.
"""

# Longer than 300 lines because the vocabulary is one thing, read together.

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]

NO_CLIENT = -1
"""The client axis of what belongs to a round as a whole (an aggregate)."""


class Kind(IntEnum):
    """What an object is."""

    UPDATE = 0
    """What one client sent in one round."""
    AGGREGATE = 1
    """The global model after one round; round 0 is the model that training started from."""
    METADATA = 2
    """What is known about one client's work in one round: hyperparameters, metrics, sizes."""


class PolicyClass(StrEnum):
    """The classes of the paper's taxonomy (Table 1)."""

    P1 = "P1"
    """Single client updates or the aggregated model."""
    P2 = "P2"
    """All client updates of a round."""
    P3 = "P3"
    """One client's updates across rounds."""
    P4 = "P4"
    """Metadata and hyperparameters."""


class Group(StrEnum):
    """What should sit together on one cache function."""

    ROUND = "round"
    CLIENT = "client"


class Source(StrEnum):
    """Where a function gets the data of a load from."""

    INGEST = "ingest"
    PEER = "peer"
    STORE = "store"


class Cut(StrEnum):
    """How an object is cut into parts."""

    RANGES = "ranges"
    """Part i of n has of each tensor the elements from i * size // n up to where the next part begins: what adds up
    over elements, such as inner products, adds up over parts."""
    TENSORS = "tensors"
    """Each part is a run of whole tensors in the sender's order: what is computed layer by layer goes part by part."""


class Part(NamedTuple):
    """One part of an object: the `number`-th (from 0) `of` so many."""

    number: int
    of: int
    cut: Cut = Cut.RANGES


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """The name of one object.

    Parameters
    ----------
    job : str
        The FL job.
    kind : Kind
        Update, aggregate or metadata.
    round : int
        The round, counted as the framework counts.
    client : str or None
        The client; None for an aggregate.
    """

    job: str
    kind: Kind
    round: int
    client: str | None = None

    def __str__(self) -> str:
        who = "" if self.client is None else f" of client {self.client!r}"
        return f"{self.kind.name.lower()}{who} in round {self.round} of job {self.job!r}"


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """Objects of one kind that share a round (a vector of clients) or a client (a vector of rounds).

    Parameters
    ----------
    job : int
        Interned job id.
    kind : Kind
        What the objects are.
    rounds : int or ndarray of int64, shape (n,)
        One round, or the vector axis.
    clients : int or ndarray of int64, shape (n,)
        One interned client id (``NO_CLIENT`` for aggregates), or the vector axis. Exactly one of the two is a vector.
    """

    job: int
    kind: Kind
    rounds: int | IntArray
    clients: int | IntArray

    def __post_init__(self) -> None:
        if isinstance(self.rounds, np.ndarray) == isinstance(self.clients, np.ndarray):
            raise TypeError("exactly one of rounds and clients must be a vector")

    def __len__(self) -> int:
        return len(self.rounds) if isinstance(self.rounds, np.ndarray) else len(self.clients)  # type: ignore[arg-type]

    def by_round(self) -> Iterator[tuple[int, IntArray]]:
        """Yield (round, clients) pairs, one pair a round."""
        if isinstance(self.rounds, np.ndarray):
            who = np.array([self.clients], dtype=np.int64)
            for r in self.rounds.tolist():
                yield r, who
        else:
            yield self.rounds, self.clients  # type: ignore[misc]

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield every (round, client) of the set."""
        if isinstance(self.rounds, int) and len(self) == 1:
            yield self.rounds, self.clients.item()  # type: ignore[union-attr]
            return
        for r, clients in self.by_round():
            for c in clients.tolist():
                yield r, c

    def canonical(self) -> tuple[Any, ...]:
        """Plain values that are equal exactly when two sets name the same objects in the same order."""

        def plain(axis: int | IntArray) -> Any:
            return axis.tolist() if isinstance(axis, np.ndarray) else int(axis)

        return (self.job, int(self.kind), plain(self.rounds), plain(self.clients))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and self.canonical() == other.canonical()

    def __hash__(self) -> int:
        return hash((self.job, self.kind, len(self)))

    @classmethod
    def of_round(cls, job: int, kind: Kind, round: int, clients: Any) -> KeySet:
        """Objects of several clients in one round."""
        return cls(job, kind, round, np.asarray(clients, dtype=np.int64))

    @classmethod
    def of_client(cls, job: int, kind: Kind, client: int, rounds: Any) -> KeySet:
        """Objects of one client (or ``NO_CLIENT``) in several rounds."""
        return cls(job, kind, np.asarray(rounds, dtype=np.int64), client)


# --- events: what happened; the engine's only input -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ingested:
    """Objects of one kind and round arrived; `sizes` are their bytes, in the order of the keys."""

    keys: KeySet
    sizes: IntArray

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Ingested)
            and self.keys == other.keys
            and [int(v) for v in self.sizes] == [int(v) for v in other.sizes]
        )


@dataclass(frozen=True, slots=True)
class Requested:
    """A request for a workload, with the objects that it needs.

    `round` and `client` say what the request is about (None where it is about no single one); `keys` what it reads.
    """

    request: int
    job: int
    workload: str
    policy_class: PolicyClass
    round: int | None
    client: int | None
    keys: tuple[KeySet, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A function finished a load."""

    function: int
    keys: KeySet
    generation: int


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A function could not load these, or does not have them; loads after `generation` are not meant."""

    function: int
    keys: KeySet
    reason: str
    generation: int


@dataclass(frozen=True, slots=True)
class FunctionJoined:
    """A cache function can be used; `holds` is what it already has (key sets with their sizes).

    The size is 0 where it has an object that was deleted, and another one was ingested under its name: never kept.
    """

    function: int
    capacity_bytes: int
    incarnation: str = ""
    holds: tuple[tuple[KeySet, IntArray], ...] = ()


@dataclass(frozen=True, slots=True)
class FunctionLost:
    """A cache function is gone, and with it all that it held."""

    function: int
    incarnation: str = ""


@dataclass(frozen=True, slots=True)
class FunctionLeaving:
    """A cache function will be taken away on purpose: what only it holds shall move before."""

    function: int


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests for these objects queue: hold `copies` copies of them more than of others (0: no more, as before)."""

    keys: KeySet
    copies: int


@dataclass(frozen=True, slots=True)
class Deleted:
    """Objects that do not exist any more: their client left, or their rounds are not kept. One decision about all.

    What is ingested under the same name later is another object.
    """

    keys: tuple[KeySet, ...]


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a user thinks of the answer to a request: whether it was of use. Only policies that learn listen to it."""

    request: int
    useful: bool


Event: TypeAlias = (
    Ingested
    | Requested
    | Loaded
    | LoadFailed
    | FunctionJoined
    | FunctionLost
    | FunctionLeaving
    | Demand
    | Deleted
    | Feedback
)


# --- wants: what a policy may say -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Want:
    """`owner` wants these objects in memory until it says otherwise. Wanting twice is wanting once.

    Higher `priority` is served first when memory is short.
    """

    owner: Hashable
    keys: KeySet
    group: Group = Group.ROUND
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Unwant:
    """`owner` no longer wants these; `keys=None` means all that it ever wanted."""

    owner: Hashable
    keys: KeySet | None = None


@dataclass(frozen=True, slots=True)
class Derive:
    """What the workload `what` computes from these objects shall be ready before it asks, for as long as they are held.

    It ranks below every want: a function computes it when it is idle, in memory that requests do not need.
    """

    what: str
    keys: KeySet


# --- actions: what the engine decided; its only output --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """`function` shall hold these objects, or the same `part` of each, and gets them from `source`."""

    function: int
    keys: KeySet
    source: Source
    size_bytes: int
    generation: int
    priority: int = 0
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """`function` shall forget these objects, unless they were loaded after `generation`."""

    function: int
    keys: KeySet
    generation: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How the keys of one request stood before it."""

    hits: int = 0
    late_hits: int = 0
    misses: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """Run a request on `function` (-1: none is alive).

    `held` says which function holds which of its objects, `missing` what must come from the persistent store. `counts`
    is an observation, not a decision: it takes no part in comparisons or digests.
    """

    request: int
    function: int
    held: tuple[tuple[int, KeySet], ...]
    missing: tuple[KeySet, ...]
    counts: Counts = field(default=Counts(), compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """A want that could not be met now; it stands, and is met when there is room."""

    keys: KeySet
    reason: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """`function` holds all of these objects, and shall derive from them what the workload `what` will ask for."""

    function: int
    keys: KeySet
    what: str


Action: TypeAlias = Load | Drop | Run | Refused | Prepare
