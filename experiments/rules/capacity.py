"""Sections 2.2, 4.4 and 4.5: arithmetic of capacity, keep-alive and its price."""

from __future__ import annotations

from functools import partial

import pandas as pd

from experiments.claims import Claim, Finding
from experiments.rules.common import TOLERANCE_SHARE, Rule, number


def figure_of(quantity: str, claim: Claim, data: pd.DataFrame, higher_is_better: bool = False) -> Finding:
    """A figure computed from the paper's inputs; where a replay counted it, that decides (it is what FLStore needs)."""
    row = data.set_index("quantity").loc[quantity]
    counted = not pd.isna(row["counted"])
    printed = float(row["printed"])
    found = float(row["counted"] if counted else row["computed"])
    verdict = number(found, printed, TOLERANCE_SHARE * printed, higher_is_better=higher_is_better)
    way = "counted in a replay" if counted else "computed from the paper's inputs and listed prices"
    note = f"; {row['note']}" if isinstance(row["note"], str) and row["note"] else ""
    return Finding(
        verdict,
        f"{way}, within {TOLERANCE_SHARE:.0%} counts as reproduced{note}",
        measured=f"{row['counted']:.4g}" if counted else "",
        modelled=f"{row['computed']:.5g}",
    )


def _rule(quantity: str) -> tuple[Rule, ...]:
    return (Rule("capacity", partial(figure_of, quantity)),)


RULES = {
    "C06": _rule("data of 100 jobs x 100 clients x 1000 rounds of ResNet-101, TiB"),
    "C11": _rule("memory to cache everything, TiB"),
    "C12": _rule("functions for it"),
    "C13": _rule("keeping them alive, USD an hour"),
    "C14": _rule("memory with tailored policies, GiB"),
    "C15": _rule("functions with tailored policies"),
    "C16": _rule("keeping two functions alive, USD an hour"),
    "C17": _rule("keeping one function alive, USD a month"),
    "C54": _rule("requests to functions, USD a million"),
}
