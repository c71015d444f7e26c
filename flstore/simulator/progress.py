"""Progress bars."""

from __future__ import annotations

from typing import Any

LONG = 100_000
"""Requests or rounds above which a progress bar is shown."""


def bar_of(requests: int, rounds: int, progress: bool | None) -> Any:
    """A progress bar, for long replays or when it is asked for, where somebody looks."""
    if progress is False or (progress is None and max(requests, rounds) <= LONG):
        return None
    from flstore.display.progress import counter

    bar = counter(total=requests, what="replay", unit="request", show=True)
    return None if bar.disable else bar
