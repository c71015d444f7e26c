"""Section 4.5 and appendix A.2: requests while functions are lost."""

from __future__ import annotations

import pandas as pd

from experiments.appa2 import AT_ONCE, BASELINE, EMPTY, STRUCK, WHOLE
from experiments.claims import Claim, Finding, Verdict
from experiments.rules.common import Rule

TIMES = 2.0
"""The 95th percentile with faults may be so many times the one without."""
WITHIN = 0.25
"""With all functions lost, FLStore may take this share longer than ObjStore-Agg."""


def copes(claim: Claim, data: pd.DataFrame) -> Finding:
    """With replicas and a function lost in one of ten requests: no failure, and a 95th percentile under twice."""
    ours = data[(data["system"] == "FLStore") & (data["replicas"] >= 1)]
    struck, whole = (ours[ours["setting"] == setting] for setting in (STRUCK, WHOLE))
    if struck.empty:
        return Finding(Verdict.NOT_RUN, "no store with replicas is part of this scale")
    failed = _failed(struck)
    ratios = struck.groupby("replicas")["latency_s"].quantile(0.95) / whole.groupby("replicas")["latency_s"].quantile(
        0.95
    )
    holds = not failed and ratios.max() < TIMES
    why = (
        f"the appendix is not at hand; holds when no request fails and the 95th percentile stays under {TIMES:g} times "
        f"that without faults; {len(struck)} requests, {int(struck['struck'].sum())} of them just after the function "
        f"that answered last was killed, which is the worst choice; {failed} failed"
    )
    each = ", ".join(f"{ratio:.2f} times with {copies} replicas" for copies, ratio in ratios.items())
    return Finding(Verdict.REPRODUCED if holds else Verdict.DIFFERS, why, measured=each)


def all_lost(claim: Claim, data: pd.DataFrame) -> Finding:
    """With all functions lost and back, empty: the median against ObjStore-Agg's for the same workloads."""
    ours = data[data["system"] == "FLStore"]
    theirs = data[data["system"] == BASELINE]["latency_s"].median()
    empty, at_once = (ours[ours["setting"] == s]["latency_s"].median() / theirs for s in (EMPTY, AT_ONCE))
    failed = _failed(ours[ours["setting"].isin((EMPTY, AT_ONCE))])
    verdict = Verdict.REPRODUCED if empty <= 1 + WITHIN else Verdict.DIFFERS
    if empty < 1 - WITHIN:
        verdict = Verdict.EXCEEDED
    why = (
        f"medians over ObjStore-Agg's, which reads the same objects of an S3 server on loopback; within {WITHIN:.0%} "
        f"counts as reproduced; decided when the functions are there again, empty; {failed} requests failed. "
        "Asked at once, a request also waits until a Python process has started"
    )
    found = f"{empty:.2f} times ({at_once:.2f} times when asked at once)"
    return Finding(Verdict.DIFFERS if failed else verdict, why, measured=found, strong_baseline=f"{theirs:.3g} s")


def _failed(rows: pd.DataFrame) -> int:
    return int((rows["error"].notna() & rows["error"].ne("")).sum())


RULES = {"C48": (Rule("appa2", copes),), "C56": (Rule("appa2", all_lost),)}
