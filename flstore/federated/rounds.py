"""A round of a recording: what it came to, and what it brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Round:
    """What one round of a recording came to. Round 0 is the model that training started from.

    Attributes
    ----------
    accuracy, loss : float
        Of the global model on the held-out images.
    train_loss : float or None
        Mean over the round's clients; None for round 0 and for a round without a valid reply.
    seconds : float
        Wall seconds, evaluation and writing included.
    clients : list of str
        Whose updates are stored, sorted.
    size_bytes : int
        Of the round's updates and its aggregate.
    """

    accuracy: float
    loss: float
    train_loss: float | None = None
    seconds: float = 0.0
    clients: list[str] = field(default_factory=list)
    size_bytes: int = 0


@dataclass(frozen=True, repr=False)
class RoundData:
    """What one round brings, as :meth:`flstore.system.System.ingest` takes it.

    Attributes
    ----------
    number : int
        Of the round.
    updates : mapping of str to mapping of str to ndarray
        By client.
    aggregate : mapping of str to ndarray or None
        The global model after the round; None when nobody answered.
    metadata : mapping of str to mapping
        By client.
    """

    number: int
    updates: Mapping[str, Mapping[str, Any]]
    aggregate: Mapping[str, Any] | None
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<RoundData of round {self.number}: {len(self.updates)} updates>"
