"""Section 5.6: overheads of the Request Tracker and the Cache Engine."""

from __future__ import annotations

from functools import partial

import pandas as pd

from experiments.claims import Claim, Finding, Verdict
from experiments.rules.common import Rule, number, worst
from experiments.sec56 import PAPER_MB

TOLERANCE = 0.10
"""Memory counts as printed within this share; less is better."""


def memory(part: str, claim: Claim, data: pd.DataFrame) -> Finding:
    """Megabytes at both numbers of requests, printed as ``small/large``."""
    printed = dict(zip(PAPER_MB[part], map(float, claim.value.split("/")), strict=True))
    found = data[data["part"] == part].groupby("requests")["allocated_mb"].first()
    if missing := set(printed) - set(found.index):
        return Finding(Verdict.NOT_RUN, f"{', '.join(map(str, sorted(missing)))} requests are not part of this scale")
    verdicts = [number(found[n], mb, TOLERANCE * mb, higher_is_better=False) for n, mb in printed.items()]
    each = "; ".join(f"{v} at {n:,}" for n, v in zip(printed, verdicts, strict=True))
    why = f"allocated by Python; less is better, within {TOLERANCE:.0%} counts as reproduced: {each}"
    if part == "tracker":
        why += "; its columns grow by 1,024 requests at a time, beside the records of the last 512"
    return Finding(worst(verdicts), why, measured="/".join(f"{found[n]:.2f}" for n in printed))


def times(claim: Claim, data: pd.DataFrame) -> Finding:
    """An upper bound in milliseconds, printed as ``<1``: for 99 of 100 operations of every kind."""
    bound_us = 1e3 * float(claim.value.removeprefix("<"))
    slowest = data.iloc[int(data["p99_us"].to_numpy().argmax())]
    found = float(slowest["p99_us"])
    why = (
        f"processor time at the 99th percentile of the slowest operation ({slowest['part']}, {slowest['operation']}, "
        f"{int(slowest['requests']):,} requests); its median is {slowest['median_us']:.2g} us, the worst of "
        f"{int(data['times'].sum()):,} operations took {data['worst_us'].max() / 1e3:.2g} ms"
    )
    return Finding(Verdict.REPRODUCED if found < bound_us else Verdict.DIFFERS, why, measured=f"{found / 1e3:.3g}")


RULES = {
    "C44": (Rule("sec56", partial(memory, "tracker")),),
    "C45": (Rule("sec56", partial(memory, "index")),),
    "C46": (Rule("sec56", times),),
}
