"""Section 5.3 and 5.4: how much cheaper an answer is."""

from __future__ import annotations

from functools import partial
from typing import Literal

import pandas as pd

from experiments.appb import ARTIFACT
from experiments.claims import Claim, Finding
from experiments.fig08 import reductions
from experiments.rules import breakup, large_models
from experiments.rules.common import Rule, against_both, allowed

ORDER_OF_C30 = ("resnet18", "efficientnet_v2_s", "swin_v2_t", "mobilenet_v3_small")
ORDER_OF_C31 = ("resnet18", "mobilenet_v3_small", "swin_v2_t", "efficientnet_v2_s")


def of_requests(how: Literal["mean", "largest"], claim: Claim, data: pd.DataFrame) -> Finding:
    """By how much the requests that were measured for Figure 7 are cheaper, in percent: mean of all, or largest."""
    found, strong = (
        100 * float(getattr(reductions(data, name), "mean" if how == "mean" else "max")())
        for name in (ARTIFACT[0], "ObjStore-Agg")
    )
    models, workloads = data["model"].nunique(), data["workload"].nunique()
    requests = int((data["system"] == "FLStore").sum())
    why = (
        f"modelled from {requests} measured requests ({models} models, {workloads} workloads), named links and prices; "
        "against the artifact's way (an object a layer, one after the other, disks like the paper's), beside it the "
        f"strong baseline (an object an update, eight at a time, S3); {allowed(float(claim.value), both=True)}"
    )
    verdict = against_both(found, strong, float(claim.value))
    return Finding(verdict, why, modelled=f"{found:.2f}", strong_baseline=f"{strong:.2f}")


def _of_requests(how: Literal["mean", "largest"]) -> tuple[Rule, Rule]:
    cells = partial(breakup.reduced, "cost", how, ARTIFACT)
    return Rule("fig08", partial(of_requests, how)), Rule("appb", cells)


def _against_cache(how: Literal["mean", "largest"]) -> tuple[Rule, ...]:
    return (Rule("appb", partial(breakup.reduced, "cost", how, breakup.CACHE)),)


RULES = {
    "C28": _of_requests("mean"),
    "C29": _of_requests("largest"),
    "C30": (Rule("appb", partial(breakup.shares_by_model, ORDER_OF_C30)),),
    "C31": (Rule("appb", partial(breakup.costs_by_model, ORDER_OF_C31)),),
    "C32": _against_cache("mean"),
    "C33": (Rule("appb", partial(breakup.span, "bill")),),
    "C34": (Rule("appb", partial(breakup.reduced, "cost", "mean", ARTIFACT)),),
    "C35": (Rule("tab02", large_models.latencies),),
    "C36": (Rule("tab02", large_models.costs),),
    "C51": _of_requests("largest"),
    "C53": _against_cache("largest"),
}
