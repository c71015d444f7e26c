"""Starts function processes without running the user's script again in each of them."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from distributed import Nanny

_lock = threading.Lock()
_hidden: list[tuple[Any, dict[str, Any]]] = []


@contextlib.contextmanager
def _script_hidden() -> Iterator[None]:
    """Let `__main__` look like a notebook's while a process starts: without a file that the child would import.

    A child of ``multiprocessing`` imports the parent's script. A cache function needs nothing from it, and a script
    without an ``if __name__ == "__main__"`` guard would start its own functions, and so on.
    """
    main = sys.modules["__main__"]
    with _lock:
        if not _hidden:
            names = ("__file__", "__spec__")
            _hidden.append((main, {name: getattr(main, name) for name in names if hasattr(main, name)}))
            main.__dict__.pop("__file__", None)
            main.__spec__ = None
        else:
            _hidden.append(_hidden[0])
    try:
        yield
    finally:
        with _lock:
            main, saved = _hidden.pop()
            if not _hidden:
                main.__dict__.update(saved)


class FunctionNanny(Nanny):
    """Dask's keeper of one worker process, which it starts anew when it dies."""

    async def instantiate(self) -> Any:
        """Start the worker process."""
        with _script_hidden():
            return await super().instantiate()
