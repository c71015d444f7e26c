"""A progress bar where somebody looks: in a terminal or a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")

PATIENCE_S = 0.5
"""What is done sooner shows no bar."""


def progress_bar(items: Iterable[T], *, total: int, what: str, unit: str, show: bool) -> Iterable[T]:
    """Pass `items` on under a bar that appears after half a second; without one when nobody looks, or not `show`."""
    from tqdm.auto import tqdm

    return tqdm(items, total=total, desc=what, unit=unit, disable=_disable(show), delay=PATIENCE_S)


def counter(*, total: int, what: str, unit: str, show: bool, done: int = 0) -> tqdm[Any]:
    """A bar for work that is no loop over items: a context manager that is told of what was done by its ``update``.

    Shown where and when that of :func:`progress_bar` is; `done` items were done before.
    """
    from tqdm.auto import tqdm

    return tqdm(total=total, initial=done, desc=what, unit=unit, disable=_disable(show), delay=PATIENCE_S)


def _disable(show: bool) -> bool | None:
    # tqdm finds out about terminals, but takes the output of a notebook for a file.
    return True if not show else False if _in_notebook() else None


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None
