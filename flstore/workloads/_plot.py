"""Axes for the plots of results; seaborn is imported when somebody plots."""

from __future__ import annotations

from typing import Any

from flstore.errors import OptionalDependencyError


def start(ax: Any, feature: str, size: tuple[float, float] = (5.0, 4.0)) -> tuple[Any, Any]:
    """seaborn, and the axes to draw on: `ax`, or new ones.

    Raises
    ------
    OptionalDependencyError
        seaborn is not installed.
    """
    try:
        import matplotlib.pyplot as plt
        import seaborn
    except ImportError as exc:
        raise OptionalDependencyError.of("seaborn", "notebook", feature) from exc
    return seaborn, plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax
