"""Hit ratio against capacity, for every policy and way of filling: what part of a gain is how a cache was filled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flstore.simulator import studies

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measure(
    capacities: list[int], clients: int, per_round: int, rounds: int, seed: int, lag: int
) -> tuple[Figure, pd.DataFrame]:
    """All policies that are registered, on requests for every round that come `lag` rounds late."""
    return studies.capacity_curve(capacities, None, clients, per_round, rounds, seed, lag)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Hit ratio, a row a policy and way of filling and a column a capacity."""
    return data.pivot_table(index=["policy", "fill"], columns="capacity_updates", values="hit_ratio", sort=False)
