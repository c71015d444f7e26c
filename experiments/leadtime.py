"""Late hits against the time that a prefetch has: what is asked for before it has arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flstore.simulator import studies

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measure(
    leads: list[float], policies: list[str], clients: int, per_round: int, rounds: int, seed: int, link: str
) -> tuple[Figure, pd.DataFrame]:
    """A scan over all rounds after training; a lead of one is what fetching a round takes over `link`."""
    return studies.lead_time(leads, policies, clients, per_round, rounds, seed, link)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Share of late hits, a row a lead and a column a policy."""
    return data.pivot(index="lead", columns="policy", values="late_ratio")
