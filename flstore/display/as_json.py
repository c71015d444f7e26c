"""Values as JSON has them, for programs that read what people would read as text."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import numpy as np


def dumps(value: Any) -> str:
    """A value as one JSON document: see :func:`plain`.

    Examples
    --------
    >>> dumps({"loss": float("nan"), "labels": np.array([0, 1])})
    '{"loss": null, "labels": [0, 1]}'
    """
    return json.dumps(plain(value), allow_nan=False, ensure_ascii=False)


def plain(value: Any) -> Any:
    """A value made of what JSON has.

    Dataclasses are objects of the fields that they show, arrays are lists, and what JSON has no number for (NaN,
    infinities) is null.
    """
    if isinstance(value, Enum):
        return value.value if isinstance(value, str) else value.name.lower()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist()) if value.dtype.kind in "biufSU" else plain(value.astype(np.float64).tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.repr}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return [plain(item) for item in value] if isinstance(value, Iterable) else str(value)
