"""What clients said of their own training: where to read it, and the numbers in it, by any of their names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from flstore.errors import InvalidParameterError, UpdateNotFoundError
from flstore.types import Key, Kind
from flstore.workloads.base import Catalogue, Inputs, Scope

FIELDS: dict[str, tuple[str, ...]] = {
    "loss": ("train_loss", "train-loss", "training_loss", "loss"),
    "accuracy": ("train_accuracy", "train-accuracy", "train_acc", "accuracy", "acc"),
    "eval_loss": ("eval_loss", "eval-loss", "val_loss", "test_loss"),
    "eval_accuracy": ("eval_accuracy", "eval-accuracy", "eval_acc", "val_accuracy", "val_acc", "test_accuracy"),
    "samples": ("num-examples", "num_examples", "examples", "samples", "num_samples"),
    "eval_samples": ("eval_num-examples", "eval_num_examples", "eval_examples", "eval_samples"),
    "duration_s": ("duration_s", "duration", "train_time_s"),
    "eval_duration_s": ("eval_duration_s", "eval_duration"),
    "reply_s": ("reply_s",),
    "bytes": ("bytes", "size_bytes"),
    "lr": ("lr", "learning-rate", "learning_rate"),
    "batch_size": ("batch-size", "batch_size"),
    "epochs": ("epochs", "local-epochs", "local_epochs", "num-epochs", "num_epochs"),
    "cores": ("cores", "num-cpus", "num_cpus", "cpus", "cpu_count"),
    "memory_bytes": ("memory_bytes", "memory-bytes"),
    "available": ("available",),
    "payout": ("payout",),
}
"""What is known by a standard name, and the names under which frameworks and users tell it; the first that a row has
counts. ``num-examples`` and the dashes are Flower's, ``eval_`` in front of a metric is our observers'."""

EXAMPLES, LOSS, DURATION = FIELDS["samples"], FIELDS["loss"], FIELDS["duration_s"]


def number(row: Mapping[str, Any], names: Sequence[str]) -> float | None:
    """The first of these fields that is a finite number, not below zero; None when there is none."""
    for name in names:
        value = row.get(name)
        if type(value) is float and 0 <= value < math.inf:  # as a rule; the check below takes longer than the rest
            return value
        if isinstance(value, Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf:
            return float(value)
    return None


def sorted_metadata(inputs: Inputs) -> list[tuple[Key, Mapping[str, Any]]]:
    """The metadata of a request, by round and client."""
    metadata = Kind.METADATA
    found = [item for item in inputs.data.items() if item[0].kind is metadata]
    return sorted(found, key=lambda item: (item[0].round, item[0].client))


def metadata_needs(name: str, last: int, scope: Scope, catalogue: Catalogue) -> list[Key]:
    """Keys of the metadata of the last rounds up to ``scope.round``, or of ``scope.rounds``, or up to the newest.

    Raises
    ------
    InvalidParameterError
        The scope has a round and rounds.
    UpdateNotFoundError
        The round does not exist, or there is no metadata in these rounds.
    """
    rounds = _rounds(name, last, scope, catalogue)
    keys = [
        Key(scope.job, Kind.METADATA, round, client)
        for round in rounds
        for client in catalogue.clients_with_metadata(round)
        if scope.client in (None, client)
    ]
    if not keys:
        who = "" if scope.client is None else f" of client {scope.client!r}"
        where = f"rounds {rounds[0]} to {rounds[-1]}" if rounds else f"job {scope.job!r}, which has no rounds"
        raise UpdateNotFoundError(
            f"there is no metadata{who} in {where}: pass it when a round is ingested "
            "(store.ingest(..., metadata={client: {...}})), look further back (last=...), or name a round"
        )
    return keys


def _rounds(name: str, last: int, scope: Scope, catalogue: Catalogue) -> Sequence[int]:
    if scope.rounds is not None:
        if scope.round is not None:
            raise InvalidParameterError(
                f"{name} takes round={scope.round} (the last rounds up to it) or rounds={list(scope.rounds)}, not both"
            )
        return sorted(set(scope.rounds))
    rounds = list(catalogue.rounds())
    if scope.round is not None:
        if scope.round not in rounds and not catalogue.clients_with_metadata(scope.round):
            catalogue.clients(scope.round)  # raises, and names the rounds that exist
        rounds = sorted({r for r in rounds if r < scope.round} | {scope.round})
    return rounds[-last:]
