"""Section 5.2 and appendix B: how much sooner an answer is there, and what part of the time is communication."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from experiments.appb import ARTIFACT
from experiments.claims import Claim, Finding, Verdict
from experiments.rules import against_cache, breakup
from experiments.rules.common import Rule, allowed, near, percentage, points

# --- Figure 7 -------------------------------------------------------------------------------------------------------


def mean_reduction(model: str | None, claim: Claim, data: pd.DataFrame) -> Finding:
    """Reduction of the mean latency in percent, over all requests or over those of one model."""
    part = data if model is None else data[data["model"] == model]
    if part.empty:
        return Finding(Verdict.NOT_RUN, f"model {model} is not part of this scale")
    means = part.groupby("system")["latency_s"].mean()
    return _reduction(100 * (1 - means["FLStore"] / means["ObjStore-Agg"]), claim, part)


def largest_reduction(claim: Claim, data: pd.DataFrame) -> Finding:
    """The largest reduction of the latency of a single request, in percent."""
    pairs = data.pivot(index=["model", "repetition", "round", "workload"], columns="system", values="latency_s")
    return _reduction(100 * float((1 - pairs["FLStore"] / pairs["ObjStore-Agg"]).max()), claim, data)


def fetch_share(claim: Claim, data: pd.DataFrame) -> Finding:
    """Share of the baseline's total latency that is fetching, in percent."""
    part = data[data["system"] == "ObjStore-Agg"]
    share = 100 * part["fetch_s"].sum() / part["latency_s"].sum()
    verdict = near(share, float(claim.value), points(float(claim.value)))
    return Finding(verdict, _circumstances(claim, part), measured=f"{share:.2f}", strong_baseline=f"{share:.2f}")


def wide_but_lower(claim: Claim, data: pd.DataFrame) -> Finding:
    """SwinV2-T on incentives and performance scheduling: third quartile above the baseline's, median below it."""
    workloads = ["incentives", "scheduling_performance"]
    part = data[(data["model"] == "swin_v2_t") & data["workload"].isin(workloads)]
    if set(part["workload"]) != set(workloads):
        return Finding(Verdict.NOT_RUN, "SwinV2-T on incentives and performance scheduling is not part of this scale")
    quantiles = part.groupby(["workload", "system"])["latency_s"].quantile(np.array([0.5, 0.75])).unstack("system")
    ours_higher = (quantiles["FLStore"] > quantiles["ObjStore-Agg"]).unstack()
    holds = bool((ours_higher[0.75] & ~ours_higher[0.5]).all())
    return Finding(
        Verdict.REPRODUCED if holds else Verdict.DIFFERS, _circumstances(None, part), measured=str(holds).lower()
    )


def _reduction(found: float, claim: Claim, rows: pd.DataFrame) -> Finding:
    values = {"measured": f"{found:.2f}", "strong_baseline": f"{found:.2f}"}
    if not rows["answers_equal"].all():
        return Finding(Verdict.CANNOT, "the systems gave different answers, so their times do not compare", **values)
    return Finding(percentage(found, float(claim.value)), _circumstances(claim, rows), **values)


def _circumstances(claim: Claim | None, rows: pd.DataFrame) -> str:
    requests = len(rows) // rows["system"].nunique()
    models, workloads = rows["model"].nunique(), rows["workload"].nunique()
    tolerance = f"{allowed(float(claim.value))}; " if claim else ""
    return (
        f"{tolerance}{models} models, {workloads} workloads, {requests} requests, an S3 server on loopback (the paper: "
        "four models, ten workloads, 3000 requests, a networked store); ObjStore-Agg here is the strong one, which "
        "stores one object an update and fetches them concurrently"
    )


def _of_requests(how: Literal["mean", "largest"], way: tuple[str, str] = ARTIFACT) -> Rule:
    return Rule("appb", partial(breakup.reduced, "latency", how, way))


def _of(model: str) -> tuple[Rule, Rule]:
    return Rule("fig07", partial(mean_reduction, model)), Rule("appb", partial(breakup.of_model, model))


RULES = {
    "C18": (Rule("fig07", partial(mean_reduction, None)), _of_requests("mean")),
    "C19": (Rule("fig07", largest_reduction), _of_requests("largest")),
    "C20": (Rule("appb", breakup.share_in_all), Rule("fig07", fetch_share)),
    "C21": _of("resnet18"),
    "C22": _of("mobilenet_v3_small"),
    "C23": _of("efficientnet_v2_s"),
    "C24": _of("swin_v2_t"),
    "C25": (against_cache.RULES["C25"], _of_requests("mean")),
    "C26": (against_cache.RULES["C26"], _of_requests("mean", breakup.CACHE)),
    "C27": (Rule("appb", partial(breakup.span, "s")),),
    "C50": (against_cache.RULES["C50"], _of_requests("largest")),
    "C52": (against_cache.RULES["C52"], _of_requests("largest", breakup.CACHE)),
    "C55": (Rule("fig07", wide_but_lower),),
}
