"""What a replay found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pandas as pd

from flstore.cost import Link, Prices, Scale, load_prices, price
from flstore.errors import InvalidParameterError, OptionalDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


HIT, LATE, MISS = 0, 1, 2
"""What became of an access, as numbers."""
OUTCOMES = pd.Index(["hit", "late", "miss"])
"""The same in words: the categories of the column ``outcome``."""

TOOK = [
    "job", "workload", "arrival_s", "hits", "late_hits", "misses", "bytes_moved", "operations", "wait_s", "fetch_s",
    "compute_s", "latency_s",
]  # fmt: skip
"""Columns of the requests of a replay with a link."""


@dataclass(frozen=True, repr=False)
class Outcome:
    """Counts of a replay, and the trace with what became of each access.

    Attributes
    ----------
    policy : str
        Name of the policy.
    hits, late_hits, misses : int
        Accesses that found their object held and loaded, held and still loading, or not held.
    frame : DataFrame
        The request rows as they were given, with a column ``outcome`` (``hit``, ``late`` or ``miss``).
    loads : int
        Objects that were loaded from the persistent store into memory.
    resident_peak_bytes : int
        Most logical bytes held at the end of any event.
    bytes_from_store : int
        Bytes that were loaded from the persistent store, or fetched from it for one request.
    resident : DataFrame
        ``resident_bytes`` after each request that changed them.
    requests : DataFrame or None
        Of a replay with a link one row a request: ``job`` (a number), ``workload``, ``arrival_s``, ``hits``,
        ``late_hits``, ``misses``, ``bytes_moved`` and ``operations`` (fetched for it), ``wait_s`` (for what was on its
        way), ``fetch_s``, ``compute_s`` and ``latency_s``, all modelled.
    link : Link or None
        What the loads crossed.
    """

    policy: str
    hits: int
    late_hits: int
    misses: int
    frame: pd.DataFrame = field(repr=False)
    loads: int = 0
    resident_peak_bytes: int = 0
    bytes_from_store: int = 0
    resident: pd.DataFrame | None = field(default=None, repr=False)
    requests: pd.DataFrame | None = field(default=None, repr=False)
    link: Link | None = None

    @property
    def total(self) -> int:
        """All accesses."""
        return self.hits + self.late_hits + self.misses

    @property
    def hit_ratio(self) -> float:
        """Hits over all accesses; late hits are not hits. NaN for an empty trace."""
        return self.hits / self.total if self.total else float("nan")

    def by(self, column: str) -> pd.DataFrame:
        """Counts of hit, late and miss for each value of `column` of the trace, with the hit ratio."""
        outcome = pd.Categorical(self.frame["outcome"], categories=["hit", "late", "miss"])
        counts = pd.crosstab(self.frame[column], outcome, dropna=False)
        return counts.assign(hit_ratio=counts["hit"] / counts.sum(axis=1))

    def latency(self, quantiles: Sequence[float] = (0.0, 0.5, 0.9, 0.99, 1.0)) -> pd.Series:
        """Modelled seconds of a request at these quantiles.

        Raises
        ------
        InvalidParameterError
            The replay had no link, so no time.
        """
        return self._timed()["latency_s"].quantile(list(quantiles))

    def cost(self, prices: Prices | None = None, scale: Scale | None = None) -> pd.DataFrame:
        """What each request costs, modelled: :func:`flstore.cost.price`, and its share of the prefetches' fees.

        A function is billed while it waits for data that is on its way, too.

        Returns
        -------
        DataFrame
            The columns of :func:`flstore.cost.price`, and ``modelled_prefetch_usd``, which ``modelled_cost_usd``
            contains.

        Raises
        ------
        InvalidParameterError
            The replay had no link.
        """
        sheet, requests = prices or load_prices(), self._timed()
        assert self.link is not None
        billed = requests.assign(compute_s=requests["latency_s"] - requests["fetch_s"])
        priced = price(billed, system="FLStore", link=self.link, prices=sheet, scale=scale)
        fees = self.loads * sheet.usd(self.link.get) / max(1, len(requests))
        total = priced["modelled_cost_usd"] + fees
        return priced.assign(
            modelled_latency_s=requests["latency_s"], modelled_prefetch_usd=fees, modelled_cost_usd=total
        )

    def plot(self, kind: Literal["outcomes", "latency", "resident"] = "outcomes", ax: Axes | None = None) -> Axes:
        """Draw shares of hits, late hits and misses along the trace, the distribution of latency, or resident bytes.

        Parameters
        ----------
        kind : {"outcomes", "latency", "resident"}
            What to draw; ``latency`` needs a replay with a link.
        ax : matplotlib Axes, optional
            Where to; default a new figure.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        InvalidParameterError
            No such kind, or no time.
        OptionalDependencyError
            matplotlib is not installed.
        """
        from flstore.display.outcome_plot import PLOTS

        if kind not in PLOTS:
            raise InvalidParameterError(f"kind must be one of {', '.join(PLOTS)}, got {kind!r}")
        if kind == "latency":
            self._timed()
        try:
            axes: Axes = PLOTS[kind](self, ax)
        except ImportError as error:
            raise OptionalDependencyError.of("matplotlib", "notebook", "A plot of an outcome") from error
        return axes

    def _timed(self) -> pd.DataFrame:
        if self.requests is None:
            raise InvalidParameterError(
                "this replay had no time: give replay(..., link='s3-same-region', interval_s=60), or requests "
                "with 'arrival_s'"
            )
        return self.requests

    def __repr__(self) -> str:
        from flstore.display.outcome import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.outcome import html

        return html(self)
