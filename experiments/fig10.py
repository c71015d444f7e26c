"""Figure 10: latency and cost of a request by workload and caching policy, modelled from a replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flstore.simulator import studies

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSIC = ["lru", "fifo"]
"""What the paper compares with; filled on demand, as there."""


def measure(
    clients: int, per_round: int, rounds: int, seed: int, model: str, policies: list[str], link: str
) -> tuple[Figure, pd.DataFrame]:
    """Every workload but inference (no trace has aggregates) under every policy; each workload alone, as in the paper.

    Returns
    -------
    Figure, DataFrame
        One row a workload and policy: workload, policy, requests, hit_ratio, late_ratio, modelled_latency_s,
        modelled_cost_usd.
    """
    return studies.figure10(clients, per_round, rounds, seed, model, policies=policies, link=link)


def latency(data: pd.DataFrame) -> pd.DataFrame:
    """Modelled seconds, a row a workload and a column a policy."""
    return data.pivot(index="workload", columns="policy", values="modelled_latency_s")


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Means over the workloads by policy."""
    columns = ["hit_ratio", "modelled_latency_s", "modelled_cost_usd"]
    return data.groupby("policy", sort=False)[columns].mean()
