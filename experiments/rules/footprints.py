"""Appendix D: what models of cross-device learning take."""

from __future__ import annotations

import pandas as pd

from experiments.claims import Claim, Finding, Verdict
from experiments.rules.common import Rule

TOLERANCE_FOOTPRINT = 0.10
"""A mean size counts as the paper's within this share of it."""


def mean_footprint(claim: Claim, data: pd.DataFrame) -> Finding:
    """Mean size of the models, in MB (10^6 bytes), and whether each fits a function at all."""
    mean, paper, counted = float(data["bytes"].mean()) / 1e6, float(claim.value), len(data)
    found = {"measured": f"{mean:.1f}"}
    if (number := int(claim.quantity.split("of ")[1].split()[0])) != counted:
        return Finding(Verdict.CANNOT, f"{counted} models were measured; the claim is about {number}", **found)
    top = float(data["bytes"].nlargest(3).sum() / data["bytes"].sum())
    why = (
        f"within {TOLERANCE_FOOTPRINT:.0%} counts as reproduced; from real state dicts of {counted} models chosen by a "
        f"rule, because the paper's list is not in its text: median {data['bytes'].median() / 1e6:.1f} MB, the three "
        f"largest are {top:.0%} of the sum, so the mean is a matter of how many such are taken; the cache of one "
        f"function of 10 GB holds {int(data['updates_fit'].min())} updates of the largest"
    )
    near = abs(mean - paper) <= TOLERANCE_FOOTPRINT * paper
    return Finding(Verdict.REPRODUCED if near else Verdict.DIFFERS, why, **found)


RULES = {"C07": (Rule("appd", mean_footprint),)}
