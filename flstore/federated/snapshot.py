"""Models as they are now, without a copy of their bytes: what Flower sends holds immutable ones."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidUpdateError
from flstore.federated.feeder import Tensors
from flstore.federated.npy import decode_npy

SCALARS = (bool, int, float, str)


_FIELDS = attrgetter("data", "dtype", "stype")  # a model has hundreds of arrays, and the training thread waits for this


def scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that metadata can hold as one cell of a table."""
    return {k: v for k, v in values.items() if isinstance(v, SCALARS)}


def of_records(records: Mapping[str, Any]) -> tuple[Tensors, int]:
    """The arrays of some ``ArrayRecord`` as they are now; names carry the record's where there are several records."""
    copies = [
        (f"{name}/" if len(records) > 1 else "", list(record), list(map(_FIELDS, record.values())))
        for name, record in records.items()
    ]

    def decode() -> dict[str, NDArray[Any]]:
        return {
            prefix + name: _decode(name, *fields)
            for prefix, names, arrays in copies
            for name, fields in zip(names, arrays, strict=True)
        }

    return decode, sum(len(data) for _, _, arrays in copies for data, _, _ in arrays)


def _decode(name: str, data: bytes, dtype: str, stype: str) -> NDArray[Any]:
    if stype != "numpy.ndarray":
        raise InvalidUpdateError(f"tensor {name!r} is serialised as {stype!r}; only 'numpy.ndarray' can be read")
    return decode_npy(data, dtype)


def of_parameters(parameters: Any) -> tuple[Tensors, int]:
    """The older interface has no names: tensors are called by their position.

    What is not in NumPy's format, such as trees as JSON or a phone's bare floats, is kept as bytes (uint8).
    """
    if not hasattr(parameters, "tensors"):
        raise InvalidUpdateError(f"a {type(parameters).__name__} is no Flower Parameters, so it is not recorded")
    tensors, is_npy = list(parameters.tensors), parameters.tensor_type == "numpy.ndarray"

    def decode() -> dict[str, NDArray[Any]]:
        return {
            f"{i:04d}": decode_npy(data) if is_npy else np.frombuffer(data, np.uint8) for i, data in enumerate(tensors)
        }

    return decode, sum(map(len, tensors))
