"""What a writer has accepted and not stored yet."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from flstore.persistence.metadata import RoundMetadata
from flstore.tensors import Buffer, as_bytes
from flstore.types import Key


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


def new_future() -> Future[Any]:
    """A future that nobody can cancel: a write that was accepted is made."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future
