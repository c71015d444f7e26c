"""A request of somebody who has no engine: where it runs, from what the functions say they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flstore.catalogue import Catalogue
from flstore.types import Counts, Key, KeySet, Requested, Run
from flstore.workloads.base import Scope, Workload

if TYPE_CHECKING:
    from flstore.types import IntArray


def requested(catalogue: Catalogue, number: int, workload: Workload, scope: Scope, keys: Sequence[Key]) -> Requested:
    """A request as the event that engines and policies know."""
    client = None if scope.client is None else catalogue.ids.find(scope.client)
    sets = catalogue.key_sets(keys)
    return Requested(number, catalogue.number, workload.name, workload.policy_class, scope.round, client, sets)


def plan(
    catalogue: Catalogue,
    event: Requested,
    keys: Sequence[Key],
    sizes: Mapping[int, IntArray],
    answering: Sequence[int],
) -> Run:
    """Choose the function that holds most bytes of a request, and for each object where it comes from.

    Parameters
    ----------
    catalogue : Catalogue
        For the names of keys.
    event : Requested
        The request.
    keys : sequence of Key
        What it reads.
    sizes : dict of int to ndarray of int64, shape (len(keys),)
        What each function holds: bytes of each object, -1 for none.
    answering : sequence of int
        The functions that can be asked now; what others hold counts as missing.
    """
    there = {f: sizes[f] for f in answering if f in sizes}
    weight = {f: int(held[held > 0].sum()) for f, held in there.items()}
    if not any(weight.values()):
        best = answering[event.request % len(answering)] if answering else -1
    else:
        best = max(weight, key=lambda f: (weight[f], -f))
    order = sorted(there, key=lambda f: (f != best, -weight[f], f))
    where = np.full(len(keys), -1, dtype=np.int64)
    for f in reversed(order):
        where[there[f] >= 0] = f

    def at(function: int) -> tuple[KeySet, ...]:
        return catalogue.key_sets(keys[i] for i in np.flatnonzero(where == function).tolist())

    held = [(f, part) for f in sorted(order) for part in at(f)]
    missing = at(-1)
    hits = int((where >= 0).sum())
    return Run(event.request, best, tuple(held), missing, Counts(hits, 0, len(keys) - hits))
