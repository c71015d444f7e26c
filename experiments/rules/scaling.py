"""Section 4.5 and appendix A.1: more jobs, more functions."""

from __future__ import annotations

import pandas as pd

from experiments.appa1 import FUNCTIONS, JOBS
from experiments.claims import Claim, Finding, Verdict
from experiments.rules.common import Rule

GROWTH = 0.10
"""Latency may grow, or be above the least, by less than this share."""


def parallel_jobs(claim: Claim, data: pd.DataFrame) -> Finding:
    """From one job to the most, with a function each: growth of the latency of a request."""
    rows = data[data["sweep"] == JOBS].set_index("jobs").sort_index()
    if 1 not in rows.index or len(rows) < 2:
        return Finding(Verdict.NOT_RUN, "one job and several are not both part of this scale")
    most = int(rows.index.max())
    limited = most > int(data["cores"].iloc[0])
    seconds = rows[list(_COLUMNS.values())]
    growth = seconds.loc[most] / seconds.loc[1] - 1
    decides = "modelled_latency_s" if limited else "median_s"
    verdict = Verdict.REPRODUCED if growth[decides] < GROWTH else Verdict.DIFFERS
    why = (
        f"the appendix is not at hand; holds when the latency of a request grows by less than {GROWTH:.0%} from 1 to "
        f"{most} jobs with a function each; "
        + (
            f"{int(data['cores'].iloc[0])} processors are the limit here, so the modelled one decides: the processor "
            "time of a request, measured, when every function and job has processors of its own"
            if limited
            else "measured"
        )
    )
    shown = {name: f"{100 * growth[column]:+.1f} %" for name, column in _COLUMNS.items()}
    return Finding(verdict, why, **shown)


def linear(claim: Claim, data: pd.DataFrame) -> Finding:
    """As many functions as requests in flight: whether no other number is faster or cheaper by more than the share."""
    rows = data[data["sweep"] == FUNCTIONS]
    worst = {"latency": 0.0, "cost": 0.0}
    judged = []
    for in_flight, part in rows.groupby("in_flight"):
        equal = part[part["functions"] == in_flight]
        if equal.empty:
            continue
        judged.append(int(str(in_flight)))
        for what, column in (("latency", "modelled_latency_s"), ("cost", "modelled_cost_usd")):
            above = float(equal[column].iloc[0] / part[column].min() - 1)
            worst[what] = max(worst[what], above)
    if len(judged) < 2:
        return Finding(Verdict.NOT_RUN, "fewer than two numbers of functions are part of this scale")
    verdict = Verdict.REPRODUCED if max(worst.values()) < GROWTH else Verdict.DIFFERS
    why = (
        "modelled from measured processor time; as many functions as requests in flight "
        f"({', '.join(map(str, judged))}) against every other number of functions; holds when both stay within "
        f"{GROWTH:.0%} of the least"
    )
    found = ", ".join(f"{what} at most {100 * above:.1f} % above the least" for what, above in worst.items())
    return Finding(verdict, why, modelled=found)


_COLUMNS = {"measured": "median_s", "modelled": "modelled_latency_s"}

RULES = {"C47": (Rule("appa1", parallel_jobs),), "C57": (Rule("appa1", linear),)}
