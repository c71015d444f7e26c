"""Who called: where a warning should point."""

from __future__ import annotations

import sys


def stacklevel() -> int:
    """The level, for ``warnings.warn``, of the first caller outside of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "flstore":
        frame, level = frame.f_back, level + 1
    return level
