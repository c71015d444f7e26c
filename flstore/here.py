"""A request that no cache function can answer, answered in the process of the store itself."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flstore.errors import FLStoreError, RequestError
from flstore.persistence.values import read, take
from flstore.results import Question
from flstore.types import Key
from flstore.workloads.base import Inputs

if TYPE_CHECKING:
    from flstore.persistence import ObjectStore

PLACE = "this process"


def answer_here(
    question: Question, reason: FLStoreError, objects: ObjectStore, not_durable: Callable[[Key], Any],
    heal: Callable[[Key, FLStoreError], Any],
) -> Any:  # fmt: skip
    """Read everything from the persistent store and the write buffer, and compute (blocks; on a thread of its own).

    Parameters
    ----------
    question : Question
        The request.
    reason : FLStoreError
        Why no function answers it; a warning says so.
    objects : ObjectStore
        The persistent store.
    not_durable : callable
        The bytes of an object that the store may not have yet, or None.
    heal : callable
        A whole copy of an object that cannot be read, or it raises.
    """
    warnings.warn(
        f"{question.workload.name} was answered in the process of the store, from the persistent store: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )
    record, began = question.record, time.perf_counter()
    record.late_hits, record.hits, record.misses = 0, 0, len(question.keys)
    data: dict[Key, Any] = {}
    for key in question.keys:
        value = not_durable(key)
        try:
            data[key], size = take(key, value) if value is not None else read(objects, key)
        except FLStoreError as error:
            data[key], size = take(key, heal(key, error))
        record.bytes_moved += size
        record.operations += 1
    ready = time.perf_counter()
    record.fetch_s = ready - began
    record.functions.append(PLACE)
    try:
        value = question.workload.compute(Inputs(question.scope, data))
    except FLStoreError:
        raise
    except Exception as error:  # what a workload raises reaches the caller as it does from a function
        raise RequestError(f"{type(error).__name__}: {error}") from error
    record.compute_s = time.perf_counter() - ready
    return value
