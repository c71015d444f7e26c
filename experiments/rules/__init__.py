"""A rule for each claim: data of an experiment in, verdict out. No verdict is ever typed in by hand.

A claim whose experiment left no data is ``not run``. A claim whose experiment did must have a rule here. The modules
follow the sections of the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from experiments.claims import Claim, Finding, Verdict
from experiments.rules import (
    capacity,
    cost,
    faults,
    footprints,
    latency,
    motivation,
    overheads,
    policies,
    review,
    scaling,
)
from experiments.rules.common import Rule
from flstore.errors import InvalidParameterError

__all__ = ["RULES", "Rule", "find", "sources_of"]

RULES: dict[str, tuple[Rule, ...]] = {
    **motivation.RULES,
    **capacity.RULES,
    **footprints.RULES,
    **latency.RULES,
    **cost.RULES,
    **policies.RULES,
    **overheads.RULES,
    **faults.RULES,
    **scaling.RULES,
    **review.RULES,
}
"""By claim. Where there are several, the first that has data decides; the others add what it does not say."""


def find(claim: Claim, data: Mapping[str, pd.DataFrame]) -> Finding:
    """What `data` (by experiment) says about `claim`.

    Raises
    ------
    InvalidParameterError
        The claim's experiment ran, and there is no rule for the claim.
    """
    sources = sources_of(claim)
    if claim.id not in RULES and sources[0] in data:
        raise InvalidParameterError(
            f"Experiment {sources[0]} has data, but claim {claim.id} has no rule: add one to experiments/rules/."
        )
    found = [
        replace(rule.judge(claim, data[rule.source]), source=rule.source)
        for rule in RULES.get(claim.id, ())
        if rule.source in data
    ]
    if not found:
        return Finding(Verdict.NOT_RUN, _why_not(sources[0]))
    decided = next((f for f in found if f.verdict is not Verdict.NOT_RUN), found[0])
    for other in found:
        decided = _with(decided, other)
    return decided


def sources_of(claim: Claim) -> list[str]:
    """The experiments that say something about `claim`; without a rule the one that the claim names."""
    return [rule.source for rule in RULES.get(claim.id, ())] or [claim.experiment.lower()]


def _with(decided: Finding, other: Finding) -> Finding:
    """The values that `decided` lacks, from `other`, with a word on where they come from."""
    names = ("measured", "modelled", "strong_baseline")
    added = {n: getattr(other, n) for n in names if getattr(other, n) and not getattr(decided, n)}
    if not added:
        return decided
    which = " and ".join(name.replace("strong_baseline", "strong baseline") for name in added)
    return replace(decided, **added, reason=f"{decided.reason}; {which}: see {other.source}")


def _why_not(experiment: str) -> str:
    if (Path(__file__).parents[1] / f"{experiment}.ipynb").exists():
        return f"experiment {experiment} was not run at this scale"
    return f"not yet run: there is no experiment {experiment} so far"
