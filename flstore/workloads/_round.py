"""The updates of one round and the model that they started from: what the P2 workloads read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flstore.codec import ClientUpdate
from flstore.errors import UpdateNotFoundError
from flstore.types import Key, Kind
from flstore.workloads._gram import Matrix, elements, gram
from flstore.workloads.base import Catalogue, Inputs, Scope, require_round

PRODUCTS = "inner products of a round"
"""What :meth:`RoundUpdates.products` is, by name: the workloads that derive it share it."""
OF = (None, "delta", "model")
"""What to compare. "delta": update minus the aggregate before it. None: that when it is stored, else "model"."""


@dataclass(frozen=True, slots=True)
class RoundUpdates:
    """Updates of a round, in the order of their clients, and the model to subtract (None: compare the weights)."""

    clients: list[str]
    updates: list[ClientUpdate]
    reference: ClientUpdate | None

    @property
    def of(self) -> str:
        """What is compared: ``"delta"`` or ``"model"``."""
        return "model" if self.reference is None else "delta"

    def gram(self) -> Matrix:
        """Inner products of the deltas or the weights, shape (n, n)."""
        return gram(self.updates, self.reference)

    def products(self) -> dict[str, Any]:
        """The same as a partial result (``Additive``), with what it is about."""
        return {
            "products": self.gram(), "dimensions": elements(self.updates[0]), "clients": self.clients, "of": self.of
        }  # fmt: skip


def round_needs(name: str, of: str | None, scope: Scope, catalogue: Catalogue) -> list[Key]:
    """Keys of all updates of the round and, unless weights are compared, of the aggregate that they started from.

    Raises
    ------
    InvalidParameterError
        The scope has no round.
    UpdateNotFoundError
        The round is not stored, or ``of="delta"`` and the aggregate before it is not.
    """
    round = require_round(name, scope)
    keys = [Key(scope.job, Kind.UPDATE, round, client) for client in catalogue.clients(round)]
    if of == "model":
        return keys
    if catalogue.has_aggregate(round - 1):
        keys.append(Key(scope.job, Kind.AGGREGATE, round - 1))
    elif of == "delta":
        raise _no_aggregate(name, round)
    return keys


def round_updates(name: str, of: str | None, inputs: Inputs) -> RoundUpdates:
    """What :func:`round_needs` asked for, in memory."""
    round = require_round(name, inputs.scope)
    updates = inputs.updates(round)
    reference = None if of == "model" else inputs.aggregate(round - 1)
    if of == "delta" and reference is None:
        raise _no_aggregate(name, round)
    return RoundUpdates(list(updates), list(updates.values()), reference)


def _no_aggregate(name: str, round: int) -> UpdateNotFoundError:
    return UpdateNotFoundError(
        f"{name} with of='delta' subtracts the aggregate of round {round - 1} from the updates of round {round}, and "
        f"it is not stored: ingest it with its round (store.ingest(..., aggregate=...)), or ask for of='model'"
    )
