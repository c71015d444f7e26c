"""Outputs of stored models on held-out data: each is computed once, whichever workload needs it first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.types import Key, Kind
from flstore.workloads._evaluate import Evaluator
from flstore.workloads._gram import is_finite
from flstore.workloads.base import Inputs

FINITE = "finite or not"
"""The piece that says whether an update is free of NaN and infinities."""


def update_keys(inputs: Inputs, round: int) -> list[Key]:
    """Keys of the updates of a round, in the order of :meth:`Inputs.updates`."""
    return [Key(inputs.scope.job, Kind.UPDATE, round, client) for client in inputs.updates(round)]


def outputs(judge: Evaluator, inputs: Inputs, keys: Sequence[Key]) -> list[NDArray[Any]]:
    """What these models give for all examples: as known, else computed, several at once."""
    known = inputs.known
    found = [None if known is None else known.find(judge.piece, [key]) for key in keys]
    lacking = [key for key, value in zip(keys, found, strict=True) if value is None]
    for key, new in zip(lacking, judge.outputs_of([inputs.data[key] for key in lacking]), strict=True):
        found[keys.index(key)] = {"outputs": new}
        if known is not None:
            known.keep(judge.piece, [key], {"outputs": new})
    return [value["outputs"] for value in found if value is not None]


def finite(inputs: Inputs, keys: Sequence[Key]) -> NDArray[np.bool_]:
    """Which of these are free of NaN and infinities."""

    def one(key: Key) -> bool:
        found = inputs.once(FINITE, [key], lambda: {"finite": is_finite(inputs.data[key])})
        return bool(found["finite"])

    return np.array([one(key) for key in keys], dtype=bool)


def ahead(judge: Evaluator, inputs: Inputs, round: int, also_finite: bool = False) -> Iterator[None]:
    """Outputs of the updates of a round, one after the other."""
    for key in update_keys(inputs, round):
        if also_finite:
            finite(inputs, [key])
        outputs(judge, inputs, [key])
        yield
