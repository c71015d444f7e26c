"""Section 5.4: inference of a model with a billion parameters."""

from __future__ import annotations

import pandas as pd

from experiments.claims import Claim, Finding, Verdict
from experiments.rules.common import against_both, allowed
from experiments.tab02 import OURS, PER_LAYER, STRONG, table


def latencies(claim: Claim, data: pd.DataFrame) -> Finding:
    """Seconds without and with FLStore; the reduction decides, modelled against the artifact's way of storing."""
    found = table(data)
    return _judged(claim, data, found["modelled_latency_s"], measured=found["latency_s"], digits=3)


def costs(claim: Claim, data: pd.DataFrame) -> Finding:
    """Dollars without and with FLStore, likewise; nothing of this can be measured."""
    return _judged(claim, data, table(data)["modelled_cost_usd"], measured=None, digits=2)


def _judged(claim: Claim, data: pd.DataFrame, modelled: pd.Series, measured: pd.Series | None, digits: int) -> Finding:
    without, with_ = map(float, claim.value.split("/"))
    printed = 100 * (1 - with_ / without)
    less = 100 * (1 - float(modelled[OURS] / modelled[PER_LAYER]))
    strong = 100 * (1 - float(modelled[OURS] / modelled[STRONG]))

    def pair(values: pd.Series, theirs: str) -> str:
        return f"{values[theirs]:.{digits}g}/{values[OURS]:.{digits}g}"

    found = {
        "modelled": f"{pair(modelled, PER_LAYER)} ({less:.2f} % less)",
        "strong_baseline": f"{pair(modelled, STRONG)} ({strong:.2f} % less)",
        "measured": "" if measured is None else f"{pair(measured, STRONG)} (loopback)",
    }
    share = float(data["of_1b"].iloc[0])
    if not data["equal"].all():
        return Finding(Verdict.CANNOT, "the systems generated different tokens, so their times do not compare", **found)
    if share != 1:
        why = (
            f"at this scale the model is cut down to {share:.1%} of Llama 3.2 1B, which says nothing about its seconds"
        )
        return Finding(Verdict.CANNOT, why, **found)
    why = (
        f"the reduction is compared ({printed:.2f} % printed; {allowed(printed, both=True)}): modelled from measured "
        "computing, the artifact's way of storing (an object a layer, disks like the paper's); beside it the strong "
        "one (an object, S3)"
    )
    return Finding(against_both(less, strong, printed), why, **found)
