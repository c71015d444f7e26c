"""What the compute threads of a cache function run: a workload, or a step of one, from an order in plain values."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from flstore import workloads
from flstore.errors import FLStoreError, RequestError
from flstore.functions import wire
from flstore.workloads.base import Additive, Derivable, Inputs, Piecewise, Scope, Staged, Workload

P = ParamSpec("P")
R = TypeVar("R")


def _reported(step: Callable[P, R]) -> Callable[P, R]:
    """Let errors of ours pass as they are, and whatever else a workload raises as a RequestError."""

    @wraps(step)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return step(*args, **kwargs)
        except FLStoreError:
            raise
        except BaseException as error:  # SystemExit, say, would end the event loop, and with it the function
            raise RequestError(f"{type(error).__name__}: {error}") from error

    return run


@_reported
def answer(order: dict[str, Any], inputs: Inputs) -> tuple[bytes, float, float]:
    """The packed result of a workload, or of its step that works on one part; when it began, and when it was done."""
    began = time.perf_counter()
    workload = _workload(order)
    if isinstance(workload, Additive) and order.get("step") == "partial":
        packed = wire.pack(workload.partial(inputs))
    elif isinstance(workload, Staged) and order.get("step") == "stage":
        number, of, _ = order["part"]
        values = workload.stage(inputs, number, of, order.get("values"))
        packed = wire.pack_result(workload.finish(values)) if number == of - 1 else wire.pack(values)
    else:
        packed = wire.pack_result(workload.compute(inputs))
    return packed, began, time.perf_counter()


@_reported
def derive(order: dict[str, Any], inputs: Inputs) -> tuple[dict[str, Any], float, float]:
    """What the answer needs of the data; when it began, and when it was done."""
    began = time.perf_counter()
    workload = _workload(order)
    assert isinstance(workload, Derivable)
    total = workload.derive(inputs)
    return total, began, time.perf_counter()


@_reported
def finish(order: dict[str, Any], scope: Scope, total: dict[str, Any]) -> tuple[bytes, float, float]:
    """The packed result, from what was derived; when it began, and when it was done."""
    began = time.perf_counter()
    workload = _workload(order)
    assert isinstance(workload, Derivable)
    packed = wire.pack_result(workload.finish(scope, total))
    return packed, began, time.perf_counter()


@_reported
def prepare(task: dict[str, Any]) -> None:
    """Have a task's model and data ready."""
    workloads.prepare(**task)


@_reported
def ahead(order: dict[str, Any], inputs: Inputs, wanted: Callable[[], bool]) -> bool:
    """Compute pieces for requests still to come, until one comes (`wanted`); whether that was all."""
    workload = _workload(order)
    assert isinstance(workload, Piecewise)
    return not any(wanted() for _ in workload.ahead(inputs))


def _workload(order: dict[str, Any]) -> Workload:
    return workloads.from_path(order["workload"])(**order["params"])
