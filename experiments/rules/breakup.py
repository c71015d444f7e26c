"""Rules on what experiment ``appb`` models: the paper's ten workloads and four models, at its number of requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pandas as pd

from experiments.appb import ARTIFACT, STRONG, rows_of
from experiments.claims import Claim, Finding, Verdict
from experiments.rules.common import against_both, allowed, near, percentage, points, worst

CACHE = ("Cache-Agg", "elasticache")
Way = tuple[str, str]
Values = Callable[[pd.DataFrame, Way], pd.Series]

SETTING = "modelled: the paper's ten workloads and four models, measured seconds of computing, named links and prices"
AS_PRINTED = (
    f"{SETTING}; against the artifact's way (an object a layer, one after the other, disks like the paper's), "
    "beside it the strong baseline (an object an update, eight at a time, S3)"
)
AGAINST_CACHE = {
    "latency": f"{SETTING}; Cache-Agg asks for all objects in one message",
    "cost": f"{SETTING}; with the cluster that holds the run, billed for all hours; beside it requests alone",
}


def reduced(
    what: Literal["latency", "cost"], how: Literal["mean", "largest"], way: Way, claim: Claim, data: pd.DataFrame
) -> Finding:
    """By how much a request of FLStore is below one of the baseline, in percent: mean or largest of the forty cells.

    What Cache-Agg costs is counted with its share of the cluster, as the paper's figure asks for (see
    ``flstore/cost/README.md``).
    """
    printed = float(claim.value)
    if way == CACHE:
        found = _of_cells(data, way, "bill" if what == "cost" else what, how)
        alone = f"{_of_cells(data, way, what, how):.2f}" if what == "cost" else ""
        why = f"{AGAINST_CACHE[what]}; {allowed(printed)}"
        return Finding(percentage(found, printed), why, modelled=f"{found:.2f}", strong_baseline=alone)
    return _both(_of_cells(data, way, what, how), _of_cells(data, STRONG, what, how), printed)


def of_model(model: str, claim: Claim, data: pd.DataFrame) -> Finding:
    """By how much the mean latency of one model's requests is lower, in percent."""
    found, strong = (float(_total_less(data, way, "s")[model]) for way in (ARTIFACT, STRONG))
    return _both(found, strong, float(claim.value))


def share_in_all(claim: Claim, data: pd.DataFrame) -> Finding:
    """Share of communication in ObjStore-Agg's time over all models, in percent."""
    found, strong = (
        100 * float(rows["modelled_communication_s"].sum() / _seconds(rows).sum())
        for rows in (rows_of(data, ARTIFACT), rows_of(data, STRONG))
    )
    verdict = near(found, float(claim.value), points(float(claim.value)))
    why = f"{AS_PRINTED}; {allowed(float(claim.value))}; section 5.3.1 prints 53 to 87 % for the same models one by one"
    return Finding(verdict, why, modelled=f"{found:.2f}", strong_baseline=f"{strong:.2f}")


def shares_by_model(models: tuple[str, ...], claim: Claim, data: pd.DataFrame) -> Finding:
    """Shares of communication by model, in the order in which they are printed."""
    return _several(claim, data, models, _shares, lambda found, _, printed: near(found, printed, points(printed)))


def costs_by_model(models: tuple[str, ...], claim: Claim, data: pd.DataFrame) -> Finding:
    """Reductions of the total cost of the requests by model, in the order in which they are printed."""
    return _several(claim, data, models, lambda d, way: _total_less(d, way, "usd"), against_both)


def span(what: Literal["s", "bill"], claim: Claim, data: pd.DataFrame) -> Finding:
    """The least and the largest reduction of the four models against Cache-Agg, in percent; printed as ``low-high``."""
    found = _total_less(data, CACHE, what)
    low, high = map(float, claim.value.split("-"))
    ends = float(found.min()), float(found.max())
    within = low <= ends[0] and ends[1] <= high
    verdict = worst(percentage(f, p) for f, p in zip(ends, (low, high), strict=True))
    ends_within = f"its ends within {points(low):.3g} and {points(high):.3g} points count as reproduced"
    why = f"{AGAINST_CACHE['latency' if what == 's' else 'cost']}; {ends_within}"
    strong = "" if what == "s" else _range(_total_less(data, CACHE, "usd"))
    reason = why + ("; all four models lie inside the printed range" if within else "")
    return Finding(verdict, reason, modelled=_range(found), strong_baseline=strong)


def _both(found: float, strong: float, printed: float) -> Finding:
    why = f"{AS_PRINTED}; {allowed(printed, both=True)}"
    return Finding(against_both(found, strong, printed), why, modelled=f"{found:.2f}", strong_baseline=f"{strong:.2f}")


def _several(
    claim: Claim,
    data: pd.DataFrame,
    models: tuple[str, ...],
    values: Values,
    judge: Callable[[float, float, float], Verdict],
) -> Finding:
    printed = [float(p) for p in claim.value.split("/")]
    found, strong = (values(data, way)[list(models)] for way in (ARTIFACT, STRONG))
    verdict = worst(judge(float(f), float(s), p) for f, s, p in zip(found, strong, printed, strict=True))
    text = ["/".join(f"{v:.2f}" for v in each) for each in (found, strong)]
    tolerances = sorted(points(p) for p in printed)
    why = f"{AS_PRINTED}; all four have to be within {tolerances[0]:.3g} to {tolerances[-1]:.3g} points"
    return Finding(verdict, why, modelled=text[0], strong_baseline=text[1])


def _of_cells(data: pd.DataFrame, way: Way, what: str, how: str) -> float:
    values = 100 * rows_of(data, way)[f"modelled_{what}_{how}_reduction"]
    return float(values.mean() if how == "mean" else values.max())


def _seconds(rows: pd.DataFrame) -> pd.Series:
    return rows["modelled_communication_s"] + rows["modelled_computation_s"]


def _shares(data: pd.DataFrame, way: Way) -> pd.Series:
    rows = rows_of(data, way)
    return 100 * rows["modelled_communication_s"] / _seconds(rows)


def _total_less(data: pd.DataFrame, way: Way, what: str) -> pd.Series:
    """Reductions of totals by model, in percent: of seconds, of the cost of requests, or of the whole bill."""
    ours, theirs = data[data["system"] == "FLStore"].set_index("model"), rows_of(data, way)
    if what == "s":
        return 100 * (1 - _seconds(ours) / _seconds(theirs))
    columns = ["modelled_requests_usd", *(["modelled_between_usd"] if what == "bill" else [])]
    return 100 * (1 - ours[columns].sum(axis=1) / theirs[columns].sum(axis=1))


def _range(values: pd.Series) -> str:
    return f"{values.min():.2f}-{values.max():.2f}"
