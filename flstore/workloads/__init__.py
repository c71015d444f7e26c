"""Workloads by name: what can be asked of a store.

Built-in workloads are imported when they are asked for. A package adds its own with the entry point group
``flstore.workloads`` (name = "package.module:Class"), a notebook with :func:`register`.
"""

from __future__ import annotations

import dataclasses
import importlib
from importlib.metadata import entry_points
from typing import Any, TypeVar, overload

from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.workloads._scores import HOW_TO_SET_A_TASK
from flstore.workloads.base import Additive, Catalogue, Derivable, Inputs, Scope, Staged, Workload

__all__ = [
    "Additive", "Catalogue", "Derivable", "Inputs", "Scope", "Staged", "Workload", "by_path", "from_path", "get",
    "make", "names", "prepare", "register",
]  # fmt: skip

ENTRY_POINTS = "flstore.workloads"
BUILT_IN: dict[str, str] = {
    "aggregation": "flstore.workloads.aggregation:Aggregation",
    "clustering": "flstore.workloads.clustering:Clustering",
    "contribution": "flstore.workloads.contribution:Contribution",
    "cosine_similarity": "flstore.workloads.cosine_similarity:CosineSimilarity",
    "debugging": "flstore.workloads.debugging:Debugging",
    "hyperparameters": "flstore.workloads.hyperparameters:Hyperparameters",
    "incentives": "flstore.workloads.incentives:Incentives",
    "inference": "flstore.workloads.inference:Inference",
    "lineage": "flstore.workloads.lineage:Lineage",
    "malicious_filtering": "flstore.workloads.malicious_filtering:MaliciousFiltering",
    "personalization": "flstore.workloads.personalization:Personalization",
    "scheduling_performance": "flstore.workloads.scheduling_performance:SchedulingPerformance",
    "scheduling_similarity": "flstore.workloads.scheduling_similarity:SchedulingSimilarity",
}
"""Import path by name."""

# What register() adds in this process. A registry by name has to remember; everything else here is a constant.
_registered: dict[str, str] = {}

W = TypeVar("W", bound=type[Workload])


def names() -> list[str]:
    """Names of all workloads, sorted.

    Examples
    --------
    >>> "clustering" in names()
    True
    """
    return sorted(_paths())


def get(name: str) -> type[Workload]:
    """The class of a workload.

    Parameters
    ----------
    name : str
        One of :func:`names`.

    Raises
    ------
    UnknownNameError
        There is none of this name; the message has the nearest one.
    """
    path = _registered.get(name) or BUILT_IN.get(name) or _paths().get(name)
    if path is None:
        raise UnknownNameError.of("workload", name, _paths())
    return from_path(path)


def make(name: str, **params: Any) -> Workload:
    """A workload with its parameters.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    **params
        Its parameters.

    Raises
    ------
    UnknownNameError
        There is no workload of this name.
    InvalidParameterError
        A parameter that it does not have, or a value out of range.

    Examples
    --------
    >>> make("clustering", k=2).k
    2
    """
    cls = get(name)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    known = f"its parameters: {', '.join(fields)}" if fields else "it has none"
    unknown = sorted(set(params) - set(fields))
    if unknown:
        raise InvalidParameterError(f"{name} has no parameter {', '.join(map(repr, unknown))}; {known}")
    free = (dataclasses.MISSING, dataclasses.MISSING)
    missing = [f.name for f in fields.values() if (f.default, f.default_factory) == free and f.name not in params]
    if missing:
        hint = f"; {HOW_TO_SET_A_TASK}" if {"model", "data"} & set(missing) else ""
        raise InvalidParameterError(f"{name} needs {', '.join(map(repr, missing))}; {known}{hint}")
    return cls(**params)


def prepare(model: str, data: str, precision: str | None = None) -> None:
    """Import a task's model, and read its data, before a workload evaluates the one on the other.

    Parameters
    ----------
    model, data : str
        As for :class:`flstore.task.Task`.
    precision : str, optional
        In which the model is evaluated.

    Raises
    ------
    InvalidParameterError
        Either cannot be imported or read, or the model cannot take the data.
    """
    from flstore.workloads._evaluate import evaluator

    evaluator("task", model, data, precision)


@overload
def register(workload: W) -> W: ...
@overload
def register(workload: str) -> type[Workload]: ...
def register(workload: type[Workload] | str) -> type[Workload]:
    """Make a workload known by its name in this process; also a class decorator.

    Registering a class anew (a module that was reloaded) replaces it.

    Parameters
    ----------
    workload : type or str
        The class, or its import path, "package.module:Class".

    Raises
    ------
    InvalidParameterError
        Not a workload, one that another process cannot import, or a name that another class has.

    Examples
    --------
    >>> register("flstore.workloads.clustering:Clustering").name
    'clustering'
    """
    cls = from_path(workload) if isinstance(workload, str) else _checked(workload, repr(workload))
    path = by_path(cls)
    taken = _paths().get(cls.name, path)
    if taken != path:
        raise InvalidParameterError(f"the name {cls.name!r} of {path} is taken by {taken}; choose another")
    if path != BUILT_IN.get(cls.name):
        _registered[cls.name] = path
    return cls


def by_path(cls: type[Workload]) -> str:
    """The import path of a workload class, by which it is sent to a cache function.

    Parameters
    ----------
    cls : type
        A subclass of :class:`Workload`.

    Raises
    ------
    InvalidParameterError
        Defined in a notebook, a script or a function, where another process cannot import it.
    """
    path = f"{cls.__module__}:{cls.__qualname__}"
    if cls.__module__ == "__main__" or "<locals>" in cls.__qualname__:
        where = "a notebook or script" if cls.__module__ == "__main__" else "a function"
        raise InvalidParameterError(
            f"{cls.__qualname__} is defined in {where}, and cache functions are other processes that cannot import it: "
            "put it at the top level of a module (a .py file that they can import)"
        )
    return path


def from_path(path: str) -> type[Workload]:
    """The workload class at an import path, "package.module:Class".

    Parameters
    ----------
    path : str
        What :func:`by_path` gave.

    Raises
    ------
    InvalidParameterError
        No such module or class here, or not a workload.
    """
    module, _, qualname = path.partition(":")
    if not module or not qualname:
        raise InvalidParameterError(f"{path!r} is no import path; it looks like 'package.module:Class'")
    try:
        found: Any = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, TypeError, ValueError) as exc:
        raise InvalidParameterError(
            f"the workload {path!r} cannot be imported ({exc}); it must be on the Python path of every cache function"
        ) from exc
    return _checked(found, path)


def _paths() -> dict[str, str]:
    """Import path by name: entry points, then built-ins, which they cannot replace, then what was registered here."""
    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)} | BUILT_IN | _registered


def _checked(cls: Any, what: str) -> type[Workload]:
    if not (isinstance(cls, type) and issubclass(cls, Workload)):
        raise InvalidParameterError(f"{what} is not a subclass of flstore.workloads.Workload")
    frozen = dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen
    absent = [name for name in ("name", "policy_class", "result_type") if not hasattr(cls, name)]
    if absent or not frozen:
        wrong = f"lacks {', '.join(absent)}" if absent else "is not a dataclass(frozen=True)"
        raise InvalidParameterError(f"the workload {what} {wrong}; see flstore.workloads.Workload")
    return cls
