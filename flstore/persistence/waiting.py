"""What a writer has accepted and not stored yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from flstore.persistence.metadata import RoundMetadata
from flstore.tensors import Buffer, as_bytes
from flstore.types import Key, Kind


@dataclass(slots=True)
class WaitingUpdate:
    """An encoded object that is not durable yet; `error` when its write failed, `told` once somebody heard of it."""

    key: Key
    buffer: Buffer
    future: Future[bool]
    error: BaseException | None = None
    told: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of the object."""
        return as_bytes(self.buffer).nbytes


@dataclass(slots=True)
class WaitingMetadata:
    """Metadata of one round that waits to be merged into the stored document."""

    content: RoundMetadata = field(default_factory=RoundMetadata)
    futures: list[Future[None]] = field(default_factory=list)
    error: BaseException | None = None
    told: bool = False


@dataclass(frozen=True, slots=True)
class Doomed:
    """What is to be deleted from a job: of one client, in some rounds, or all of it."""

    job: str
    client: str | None = None
    rounds: Collection[int] | None = None
    keep_aggregates: Collection[int] = ()

    def has(self, key: Key) -> bool:
        """Whether an object goes."""
        if key.kind is Kind.AGGREGATE and (self.client is not None or key.round in self.keep_aggregates):
            return False
        return self.concerns((key.job, key.round)) and self.client in (None, key.client)

    def concerns(self, document: tuple[str, int]) -> bool:
        """Whether a metadata document (job, round) goes, or something of it."""
        return document[0] == self.job and (self.rounds is None or document[1] in self.rounds)

    def among(
        self, updates: Mapping[Key, WaitingUpdate], documents: Mapping[tuple[str, int], WaitingMetadata]
    ) -> list[WaitingUpdate | WaitingMetadata]:
        """What of that waits."""
        found: list[WaitingUpdate | WaitingMetadata] = [w for key, w in updates.items() if self.has(key)]
        return found + [d for name, d in documents.items() if self.concerns(name)]

    def strike(self, document: WaitingMetadata) -> bool:
        """Take out of a document what goes; whether nothing is left."""
        if self.client is None:
            return True
        document.content.rows.pop(self.client, None)
        return not (document.content.rows or document.content.server)


def new_future() -> Future[Any]:
    """A future that nobody can cancel: a write that was accepted is made."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future
