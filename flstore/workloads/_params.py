"""Checks of workload parameters: one message for each kind of mistake, naming the value and the limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flstore.errors import InvalidParameterError


def check_integer(workload: str, name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise InvalidParameterError unless `value` is an int in [least, most]."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameterError(f"{workload}: {name} is an integer, not {value!r}")
    if value < least or (most is not None and value > most):
        limit = f"at least {least}" if most is None else f"between {least} and {most}"
        raise InvalidParameterError(f"{workload}: {name}={value} is out of range; it must be {limit}")


def check_positive(workload: str, name: str, value: Any) -> None:
    """Raise InvalidParameterError unless `value` is a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        raise InvalidParameterError(f"{workload}: {name} is a finite number above 0, not {value!r}")


def check_choice(workload: str, name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise InvalidParameterError unless `value` is one of `choices`."""
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise InvalidParameterError(f"{workload}: {name}={value!r} is unknown; choose one of {known}")


def check_not_negative(workload: str, name: str, value: Any) -> None:
    """Raise InvalidParameterError unless `value` is a finite number of at least zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise InvalidParameterError(f"{workload}: {name} is a finite number of at least 0, not {value!r}")
