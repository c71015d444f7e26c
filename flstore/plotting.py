"""``store.plot``: pictures of how the requests of a store fared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flstore.errors import InvalidParameterError, OptionalDependencyError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from flstore.system import System

KINDS = ("latency", "hit_ratio", "bytes_moved", "cost")


class Plots:
    """Pictures of the requests of one store, FLStore or a baseline; a closed one has them still.

    Each method draws on the matplotlib axes `ax`, by default on those of a new figure, and returns them. All raise
    InvalidParameterError while no request was answered, and OptionalDependencyError without seaborn.

    Examples
    --------
    >>> import numpy as np
    >>> from flstore import FLStore
    >>> with FLStore.local(functions=1, root="memory://plotted") as store:
    ...     receipt = store.ingest(1, {"a": {"w": np.ones(9)}, "b": {"w": np.zeros(9)}})
    ...     answer = store.request("cosine_similarity", round=1)
    ...     store.plot.hit_ratio().get_title()
    'FLStore: hit ratio'
    """

    def __init__(self, system: System) -> None:
        self._system = system

    def latency(self, ax: Axes | None = None) -> Axes:
        """Seconds from question to answer by workload, as the caller measured them; on a logarithmic axis."""
        return self._draw("latency", self._answered(), ax=ax)

    def hit_ratio(self, window: int | None = None, ax: Axes | None = None) -> Axes:
        """Share of the objects asked for that were in memory, by class, along the requests.

        Parameters
        ----------
        window : int, optional
            Over how many requests of a class each point is taken; default a twentieth of all.
        ax : matplotlib Axes, optional
            Where to draw.
        """
        requests = self._answered()
        if window is None:
            window = max(1, len(requests) // 20)
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise InvalidParameterError(f"window must be a number of requests, at least 1, got {window!r}")
        if not requests[["hits", "late_hits", "misses"]].to_numpy().any():
            raise InvalidParameterError("there is no hit ratio to plot: no request has read anything yet")
        return self._draw("hit_ratio", requests, window=window, ax=ax)

    def bytes_moved(self, ax: Axes | None = None) -> Axes:
        """Bytes that were fetched for requests, added up by workload."""
        return self._draw("bytes_moved", self._answered(), ax=ax)

    def cost(self, ax: Axes | None = None, **sheets: Any) -> Axes:
        """What a request costs on average, by workload: modelled from what was counted, see :func:`flstore.cost.price`.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw.
        **sheets
            ``link``, ``prices``, ``links`` and ``scale`` of :func:`flstore.cost.price`.
        """
        from flstore.cost import price

        return self._draw("cost", price(self._answered(), **sheets), ax=ax)

    def _answered(self) -> pd.DataFrame:
        requests = self._system.requests
        answered = requests[requests["status"] == "done"]
        if answered.empty:
            asked = f"of {len(requests):,} requests none was answered" if len(requests) else "no request was made"
            raise InvalidParameterError(
                f"there is nothing to plot yet: {asked}; ask with store.request('clustering', round=...)"
            )
        return answered

    def _draw(self, what: str, requests: pd.DataFrame, **options: Any) -> Axes:
        try:
            from flstore.display import plots
        except ImportError as error:
            raise OptionalDependencyError.of("seaborn", "notebook", f"store.plot.{what}") from error
        axes: Axes = getattr(plots, what)(requests, self._system.name, **options)
        return axes

    def __repr__(self) -> str:
        calls = ", ".join(f"{name}()" for name in KINDS)
        return f"Plots of a store of job {self._system.job!r}, each takes ax=: {calls}"
