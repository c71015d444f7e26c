"""What a workload is: a small frozen dataclass that says what it reads, and computes on it.

A workload runs on the cache function that holds the data, or in the process of a baseline; it cannot tell which. To
add one, write a file with a :class:`Workload` subclass and register it by name (``flstore.workloads.register``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from flstore.codec import ClientUpdate
from flstore.errors import InvalidParameterError
from flstore.types import Key, Kind, PolicyClass


class Catalogue(Protocol):
    """What exists, by the names that users gave. Every look-up of something absent raises ``UpdateNotFoundError``."""

    def rounds(self) -> Sequence[int]:
        """All rounds with client updates, ascending."""
        ...

    def clients(self, round: int) -> Sequence[str]:
        """Clients with an update in `round`, sorted; the error names the rounds that exist."""
        ...

    def rounds_of(self, client: str) -> Sequence[int]:
        """Rounds in which `client` took part, ascending; the error names clients that exist."""
        ...

    def has_aggregate(self, round: int) -> bool:
        """Whether the global model after `round` is stored."""
        ...

    def clients_with_metadata(self, round: int) -> Sequence[str]:
        """Clients with metadata in `round`, sorted (empty when there is none)."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """What a request is about: a job and, where the workload wants them, a round, a client, several rounds."""

    job: str
    round: int | None = None
    client: str | None = None
    rounds: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """The objects of one request, in memory: updates and aggregates as tensors, metadata as plain dicts."""

    scope: Scope
    data: Mapping[Key, Any]

    def updates(self, round: int) -> dict[str, ClientUpdate]:
        """Client updates of `round` by client id, sorted by id."""
        found = {k.client: v for k, v in self.data.items() if k.kind is Kind.UPDATE and k.round == round}
        return {str(c): found[c] for c in sorted(found, key=str)}

    def history(self, client: str) -> dict[int, ClientUpdate]:
        """Updates of `client` by round, ascending."""
        found = {k.round: v for k, v in self.data.items() if k.kind is Kind.UPDATE and k.client == client}
        return dict(sorted(found.items()))

    def aggregate(self, round: int) -> ClientUpdate | None:
        """The global model after `round`, or None when the request did not ask for it."""
        found: ClientUpdate | None = self.data.get(Key(self.scope.job, Kind.AGGREGATE, round))
        return found

    def metadata(self) -> list[dict[str, Any]]:
        """One dict a (round, client), with these two among its entries, sorted by them."""
        rows = [(k.round, str(k.client), v) for k, v in self.data.items() if k.kind is Kind.METADATA]
        return [{**v, "round": r, "client": c} for r, c, v in sorted(rows, key=lambda row: row[:2])]


class Workload(ABC):
    """Base of all workloads. Subclasses are frozen dataclasses whose fields are the parameters of a request.

    Attributes
    ----------
    name : str
        The name that requests use.
    policy_class : PolicyClass
        The class of its access pattern (Table 1); chooses the caching policy.
    result_type : type
        The dataclass that `compute` returns. Its fields hold plain values (None, bool, int, float, str, lists, dicts
        with string keys, NumPy arrays), because it crosses from a function to its caller without pickle.
    """

    name: ClassVar[str]
    policy_class: ClassVar[PolicyClass]
    result_type: ClassVar[type]

    @abstractmethod
    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        """The objects that this request reads. Raises when the scope is incomplete or names what does not exist."""

    @abstractmethod
    def compute(self, inputs: Inputs) -> Any:
        """The answer, an instance of `result_type`. Must not change its inputs, which others read too."""


def require_round(name: str, scope: Scope) -> int:
    """The round of `scope`, or an error that says how to name one."""
    if scope.round is None:
        raise InvalidParameterError(f"{name} is about one round: store.request({name!r}, round=3)")
    return scope.round


def require_client(name: str, scope: Scope) -> str:
    """The client of `scope`, or an error that says how to name one."""
    if scope.client is None:
        raise InvalidParameterError(f"{name} is about one client: store.request({name!r}, client='7')")
    return scope.client
