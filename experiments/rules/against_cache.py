"""Section 5.2.2: latency against an in-memory cache, measured on a real Redis."""

from __future__ import annotations

from functools import partial
from typing import Literal

import pandas as pd

from experiments.claims import Claim, Finding, Verdict
from experiments.fig09 import CACHE, DERIVED, OBJECTS, OURS, reductions
from experiments.rules.common import Rule, allowed, percentage


def reduced(how: Literal["mean", "largest"], baseline: str, claim: Claim, data: pd.DataFrame) -> Finding:
    """By how much requests of FLStore took less than the same ones of the baseline, in percent: mean or largest.

    The path of the data alone decides; what derived state adds is told beside it.
    """
    found, derived = (
        100 * float(getattr(reductions(data, name, baseline), "mean" if how == "mean" else "max")())
        for name in (OURS, DERIVED)
    )
    values = {"measured": f"{found:.2f} ({derived:.2f} with derived state)", "strong_baseline": f"{found:.2f}"}
    if not data["answers_equal"].all():
        return Finding(Verdict.CANNOT, "the systems gave different answers, so their times do not compare", **values)
    return Finding(percentage(found, float(claim.value)), _circumstances(claim, data, baseline), **values)


def _circumstances(claim: Claim, data: pd.DataFrame, baseline: str) -> str:
    models, workloads = data["model"].nunique(), data["workload"].nunique()
    where = {
        CACHE: "Redis on a socket of this machine, where no network adds to what it takes, and one message for all",
        OBJECTS: "an S3 server on loopback, an object an update and eight at a time",
    }
    return (
        f"{allowed(float(claim.value))}; mean or largest of {int((data['system'] == OURS).sum())} requests ({models} "
        f"models, {workloads} workloads; the paper: four and ten); without derived state; {where[baseline]}"
    )


def rule(how: Literal["mean", "largest"], baseline: str) -> Rule:
    """The rule for a reduction against a baseline."""
    return Rule("fig09", partial(reduced, how, baseline))


RULES = {
    "C25": rule("mean", OBJECTS),
    "C26": rule("mean", CACHE),
    "C50": rule("largest", OBJECTS),
    "C52": rule("largest", CACHE),
}
