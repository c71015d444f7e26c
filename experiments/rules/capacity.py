"""Sections 2.2, 4.4 and 4.5: arithmetic of capacity, keep-alive and its price."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from experiments.claims import Claim, Finding
from experiments.rules.common import TOLERANCE_SHARE, Rule, number


def figure_of(quantity: str, units: float, claim: Claim, data: pd.DataFrame) -> Finding:
    """A figure computed from the paper's inputs; where a replay counted it, that decides (it is what FLStore needs).

    Less is better. `units` of the claim are one of the figure's.
    """
    row: dict[str, Any] = data[data["quantity"] == quantity].iloc[0].to_dict()  # type: ignore[assignment]
    computed, counted = float(row["computed"]) / units, float(row["counted"]) / units
    replayed = not pd.isna(counted)
    printed = float(claim.value)
    found = counted if replayed else computed
    verdict = number(found, printed, TOLERANCE_SHARE * printed, higher_is_better=False)
    way = "counted in a replay" if replayed else "computed from the paper's inputs and listed prices"
    note = f"; {row['note']}" if isinstance(row["note"], str) and row["note"] else ""
    return Finding(
        verdict,
        f"{way}, within {TOLERANCE_SHARE:.0%} counts as reproduced{note}",
        measured=f"{counted:.4g}" if replayed else "",
        modelled=f"{computed:.5g}",
    )


def _rule(quantity: str, units: float = 1.0) -> tuple[Rule, ...]:
    return (Rule("capacity", partial(figure_of, quantity, units)),)


RULES = {
    "C06": _rule("data of 100 jobs x 100 clients x 1000 rounds of ResNet-101, TiB"),
    "C11": _rule("memory to cache everything, TiB"),
    "C12": _rule("functions for it"),
    "C13": _rule("keeping them alive, USD an hour"),
    "C14": _rule("memory with tailored policies, GiB"),
    "C15": _rule("functions with tailored policies"),
    "C16": _rule("keeping two functions alive, USD an hour"),
    "C17": _rule("keeping one function alive, USD a month"),
    "C54": _rule("requests to functions, USD a million", 1e6),
}
