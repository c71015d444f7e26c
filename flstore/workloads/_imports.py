"""What a request names by its import path: a model's factory, a loader of data."""

from __future__ import annotations

import importlib
from typing import Any

from flstore.errors import InvalidParameterError, OptionalDependencyError


def check_path(workload: str, name: str, path: Any) -> None:
    """Raise InvalidParameterError unless `path` looks like "package.module:function"."""
    if not isinstance(path, str) or path.count(":") != 1 or not all(path.split(":")):
        raise InvalidParameterError(f"{workload}: {name} is an import path, 'package.module:function', not {path!r}")


def function_at(workload: str, name: str, path: str) -> Any:
    """The function at an import path.

    Raises
    ------
    InvalidParameterError
        It cannot be imported here, or is no function.
    """
    module, attribute = path.split(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidParameterError(
            f"{workload}: {name}={path!r} cannot be imported ({error}); it must be on the Python path of every cache "
            f"function"
        ) from error
    if not callable(found):
        raise InvalidParameterError(f"{workload}: {name}={path!r} is a {type(found).__name__}, not a function")
    return found


def call_path(workload: str, name: str, path: str) -> Any:
    """What the function at an import path returns.

    Raises
    ------
    InvalidParameterError
        It cannot be imported here, is no function, or raised.
    OptionalDependencyError
        It needs a package that is not installed.
    """
    found = function_at(workload, name, path)
    try:
        return found()
    except OptionalDependencyError:  # it says what to install
        raise
    except Exception as error:
        raise InvalidParameterError(f"{workload}: {path}() raised {type(error).__name__}: {error}") from error
