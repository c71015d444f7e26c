"""What the engine found about a request stands until something changes: asked again, it need not be looked up."""

from __future__ import annotations

from typing import NamedTuple

from flstore.types import Counts, KeySet, Run

MOST = 64
"""Requests that are remembered; when there are more, all are forgotten."""


class Finding(NamedTuple):
    """What was found, about which objects."""

    keys: tuple[KeySet, ...]
    counts: Counts
    run: Run


class Standing:
    """Findings by the very tuple of key sets that was asked for, not by an equal one: comparing costs what it saves."""

    def __init__(self) -> None:
        self._found: dict[int, Finding] = {}

    def get(self, keys: tuple[KeySet, ...]) -> Finding | None:
        """What stands about these objects."""
        found = self._found.get(id(keys))
        return found if found is not None and found.keys is keys else None

    def note(self, keys: tuple[KeySet, ...], counts: Counts, run: Run) -> None:
        """Remember a finding. It keeps the tuple alive, so that no other one gets its identity."""
        if len(self._found) >= MOST:
            self._found.clear()
        self._found[id(keys)] = Finding(keys, counts, run)

    def clear(self) -> None:
        """Something has changed."""
        if self._found:
            self._found.clear()
