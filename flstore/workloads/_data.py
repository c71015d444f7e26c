"""Data to evaluate models on: what a function returns, or two arrays in a file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError, OptionalDependencyError
from flstore.workloads._imports import call_path, check_path

FILES = (".npz", ".safetensors")
"""Endings of files with the arrays x and y."""


def is_file(data: str) -> bool:
    """Whether `data` names a file, and no function."""
    return data.lower().endswith(FILES)


def check_data(workload: str, data: Any) -> None:
    """Raise InvalidParameterError unless `data` looks like an import path or names a file that can be read."""
    if isinstance(data, str) and is_file(data):
        return
    if not isinstance(data, str) or data.count(":") != 1 or "/" in data:
        raise InvalidParameterError(
            f"{workload}: data is an import path, 'package.module:function', or the path or URL of a file that ends in "
            f"{' or '.join(FILES)}, not {data!r}"
        )
    check_path(workload, "data", data)


def load(workload: str, data: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Examples and their labels, of equal length; None where there are no labels.

    Raises
    ------
    InvalidParameterError
        It cannot be imported or read, or gives something else.
    """
    what, found = (data, _read(workload, data)) if is_file(data) else (f"{data}()", call_path(workload, "data", data))
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise InvalidParameterError(f"{workload}: {what} must return (x, y), not a {type(found).__name__}")
    x, y = (None if part is None else np.asarray(part) for part in found)
    if x is None or x.ndim == 0 or not len(x) or (y is not None and (y.ndim == 0 or len(x) != len(y))):
        shapes = " and ".join("None" if part is None else f"shape {list(part.shape)}" for part in (x, y))
        raise InvalidParameterError(
            f"{workload}: {what} gives x and y of {shapes}; they need one row an example each, and at least one example"
        )
    return x, y


def version(workload: str, data: str) -> str:
    """What changes when a file of data does; empty for a function."""
    if not is_file(data):
        return ""
    try:
        fs, path = _place(data)
        return str(fs.ukey(path))
    except Exception as error:
        raise _unreadable(workload, data, error) from error


def _read(workload: str, data: str) -> tuple[Any, Any]:
    try:
        fs, path = _place(data)
        with fs.open(path, "rb") as file:
            if data.lower().endswith(".npz"):
                with np.load(file, allow_pickle=False) as archive:
                    arrays = dict(archive)
            else:
                from safetensors.numpy import load as load_safetensors

                arrays = load_safetensors(file.read())
    except Exception as error:
        raise _unreadable(workload, data, error) from error
    if "x" not in arrays:
        raise InvalidParameterError(f"{workload}: {data} has no array 'x'; it has: {', '.join(sorted(arrays))}")
    return arrays["x"], arrays.get("y")


def _place(data: str) -> tuple[Any, str]:
    import fsspec

    fs, path = fsspec.core.url_to_fs(data)
    return fs, str(path)


def _unreadable(workload: str, data: str, error: Exception) -> Exception:
    if isinstance(error, ImportError):
        return OptionalDependencyError.of(str(error.name or error), "s3", f"Reading {data}")
    return InvalidParameterError(
        f"{workload}: data={data!r} cannot be read ({type(error).__name__}: {error}); cache functions read it by that "
        f"name, so it must be one that they all see"
    )
