"""From requests to cells, and from cells to the mean reduction: as ``parameters.yaml`` says."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.latency.parameters import Parameters

CELL = ["column", "model", "workload", "system"]
OURS = "FLStore"


def cells(requests: pd.DataFrame, parameters: Parameters) -> pd.DataFrame:
    """Latency of each workload of each model by each system.

    Parameters
    ----------
    requests : DataFrame
        As :func:`benchmarks.latency.trace.measure` gives them.

    Returns
    -------
    DataFrame
        Indexed by column, model, workload, system: mean_s with low_s and high_s (its confidence interval), median_s,
        q1_s, q3_s, asked (requests sent), stands_for (requests of the trace), equal (all answers).
    """
    return requests.groupby(CELL, sort=False)[["latency_s", "weight", "equal"]].apply(_cell, parameters)


def _cell(rows: pd.DataFrame, parameters: Parameters) -> pd.Series:
    latency, weight = rows["latency_s"].to_numpy(), rows["weight"].to_numpy()
    rng = np.random.default_rng(parameters.seed)
    low, high = np.percentile(_means(rng, rows, parameters), _tails(parameters))
    q1, median, q3 = _quantiles(latency, weight, (0.25, 0.5, 0.75))
    values = {
        "mean_s": np.average(latency, weights=weight), "low_s": low, "high_s": high, "median_s": median, "q1_s": q1,
        "q3_s": q3, "asked": len(rows), "stands_for": weight.sum(), "equal": bool(rows["equal"].all()),
    }  # fmt: skip
    return pd.Series(values)


def reductions(
    requests: pd.DataFrame, parameters: Parameters, column: str = "exact", cached: bool = False
) -> pd.DataFrame:
    """By how much FLStore's mean latency is below that of each other system, cell by cell.

    Parameters
    ----------
    requests : DataFrame
        As :func:`benchmarks.latency.trace.measure` gives them.
    column : str
        Whose requests of FLStore; the others are of the same column where they were asked, else of "exact".
    cached : bool
        Only FLStore's requests that missed nothing.

    Returns
    -------
    DataFrame
        Indexed by model and workload, one column a system: 1 - FLStore / system.
    """
    ours = requests[(requests["column"] == column) & (requests["system"] == OURS)]
    if column == "derived":
        ours = ours.assign(latency_s=ours["latency_s"] + _charge(requests, ours))
    if cached:
        ours = ours[ours["misses"] + ours["late_hits"] == 0]
    theirs = requests[(requests["system"] != OURS) & (requests["column"] == column)]
    if theirs.empty:
        theirs = requests[(requests["system"] != OURS) & (requests["column"] == "exact")]
    by = ["model", "workload"]
    mean = _weighted(ours, by)
    other = _weighted(theirs, [*by, "system"]).unstack("system")
    table = 1 - (1 / other).mul(mean, axis=0)
    counted = [w for w in parameters.workloads if w in table.index.get_level_values("workload")]
    return table[table.index.get_level_values("workload").isin(counted)]


def _charge(requests: pd.DataFrame, ours: pd.DataFrame) -> NDArray[np.float64]:
    """Seconds of computing ahead that each request is charged: those of its round, in equal shares.

    They are processor seconds, beyond those that the functions need to take in a round without computing ahead.
    """
    by = ["model", "round"]
    without = requests[(requests["column"] == "exact") & (requests["system"] == OURS)].groupby(by)["ahead_s"].first()
    more = (ours.groupby(by)["ahead_s"].first() - without).clip(lower=0) / ours.groupby(by)["weight"].sum()
    return more.reindex(pd.MultiIndex.from_frame(ours[by])).to_numpy(dtype=np.float64)


def _weighted(rows: pd.DataFrame, by: list[str]) -> pd.Series:
    total = (rows["latency_s"] * rows["weight"]).groupby([rows[name] for name in by], sort=False).sum()
    return total / rows.groupby(by, sort=False)["weight"].sum()


def interval(requests: pd.DataFrame, parameters: Parameters, system: str) -> tuple[float, float]:
    """Confidence interval of the mean reduction against a system, by resampling the requests of every cell."""
    rows = requests[(requests["column"] == "exact") & requests["workload"].isin(parameters.workloads)]
    rng, drawn = np.random.default_rng(parameters.seed), []
    for _, cell in rows.groupby(["model", "workload"], sort=False):
        ours, theirs = (cell[cell["system"] == name] for name in (OURS, system))
        drawn.append(1 - _means(rng, ours, parameters) / _means(rng, theirs, parameters))
    low, high = np.percentile(np.mean(drawn, axis=0), _tails(parameters))
    return float(low), float(high)


def _tails(parameters: Parameters) -> tuple[float, float]:
    outside = 50 * (1 - parameters.confidence)
    return outside, 100 - outside


def _means(rng: np.random.Generator, rows: pd.DataFrame, parameters: Parameters) -> NDArray[np.float64]:
    """Weighted means of rows that are drawn again and again, with replacement."""
    latency, weight = rows["latency_s"].to_numpy(), rows["weight"].to_numpy()
    chosen = rng.integers(0, len(rows), (parameters.resamples, len(rows)))
    means: NDArray[np.float64] = (latency[chosen] * weight[chosen]).sum(1) / weight[chosen].sum(1)
    return means


def _quantiles(latency: NDArray[np.float64], weight: NDArray[np.float64], at: tuple[float, ...]) -> list[float]:
    order = np.argsort(latency)
    share = np.cumsum(weight[order]) / weight.sum()
    return [float(latency[order][min(np.searchsorted(share, q), len(order) - 1)]) for q in at]
