"""A progress bar where somebody looks: in a terminal or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

_PATIENCE_S = 0.5


def progress_bar(items: Iterable[T], *, total: int, what: str, unit: str, show: bool) -> Iterable[T]:
    """Pass `items` on under a bar that appears after half a second; without one when nobody looks, or not `show`."""
    from tqdm.auto import tqdm

    # tqdm finds out about terminals, but takes the output of a notebook for a file.
    disable = True if not show else False if _in_notebook() else None
    return tqdm(items, total=total, desc=what, unit=unit, disable=disable, delay=_PATIENCE_S)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
