"""Errors and warnings that must not disturb the training."""

from __future__ import annotations

import contextlib
import traceback
import warnings


def warn(text: str) -> None:
    """Warn without ever raising: where warnings are errors, training goes on all the same."""
    with contextlib.suppress(RuntimeWarning):
        warnings.warn(text, RuntimeWarning, stacklevel=3)


def forget_locals(error: BaseException | None) -> None:
    """Keep the lines of a traceback but not the variables, which would hold a round of tensors until the next flush."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
