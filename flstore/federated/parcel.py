"""What observers hand over to a store, and what of it was lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from flstore.federated.feeder import Feeder

Tensors = Callable[[], Mapping[str, Any]]
"""Decodes tensors when it is called, so that the thread which observes pays nothing for it."""


class Ingests(Protocol):
    """What a store offers to observers.

    Two more methods are used where a store has them: ``client_of(node_id)`` and ``retry_writes()``, as those of
    :class:`flstore.system.System`.
    """

    def ingest(
        self,
        round: int,
        updates: Mapping[str, Mapping[str, Any]],
        aggregate: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Any:
        """Take in client updates, the aggregate and metadata of a round: any of the three."""
        ...

    def add_feeder(self, feeder: Feeder) -> Any:
        """Flush and close `feeder` with the store."""
        ...


@dataclass(frozen=True, slots=True)
class Lost:
    """Something that was handed over and not ingested.

    Attributes
    ----------
    round : int
        Its round.
    client : str or None
        Whose it was; None for what is the whole round's.
    kind : str
        "update", "aggregate", "metadata", or "observation" for what could not even be read.
    reason : str
        The error.
    """

    round: int
    client: str | None
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """What one observation of a round hands over.

    Attributes
    ----------
    round : int
        Round of all that follows.
    size_bytes : int
        Bytes that it keeps in memory until it is ingested.
    updates : dict of client id to tensors
        In the order of arrival.
    aggregate : callable, optional
        The global model after the round.
    metadata : dict of client id to dict
        Scalars by name.
    """

    round: int
    size_bytes: int = 0
    updates: dict[str, Tensors] = field(default_factory=dict)
    aggregate: Tensors | None = None
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)

    def lost(self, error: BaseException) -> list[Lost]:
        """All that is in it, as what `error` has cost."""
        reason = f"{type(error).__name__}: {error}"
        found = [Lost(self.round, client, "update", reason) for client in self.updates]
        found += [Lost(self.round, None, "aggregate", reason)] if self.aggregate else []
        return found + [Lost(self.round, client, "metadata", reason) for client in self.metadata]
