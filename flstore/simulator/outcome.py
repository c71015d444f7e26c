"""What a replay found."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd


HIT, LATE, MISS = 0, 1, 2
"""What became of an access, as numbers: the categories of the column ``outcome`` in their order."""


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
        Of a replay with a link one row a request: ``job`` (a number), ``workload``, ``arrival_s``, ``hits``, ``late_hits``,
        ``misses``, ``bytes_moved`` and ``operations`` (fetched for it), ``wait_s`` (for what was on its way),
        ``fetch_s``, ``compute_s`` and ``latency_s``, all modelled.
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

    def __repr__(self) -> str:
        from flstore.display.outcome import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.outcome import html

        return html(self)
