"""What the review of the paper asks for."""

from __future__ import annotations

import pandas as pd

from experiments.claims import Claim, Finding, Verdict
from experiments.frontier import named
from experiments.rules.common import Rule
from flstore.simulator.frontier import CLAIRVOYANT, on_frontier

PAPERS = ("tailored", "tailored-limited", "random", "static", "lru", "fifo", "lfu", "")
"""The policies of section 5.5, and the systems, which have none."""


def cost_benefit(claim: Claim, data: pd.DataFrame) -> Finding:
    """Whether the tailored policy is on the frontier of cost and latency among what the paper compares with.

    That is its policies, the classic ones filled on demand, and its systems; the fair ones are beside it.
    """
    data = data.fillna({"policy": "", "fill": ""})
    if "tailored" not in set(data["policy"]):
        return Finding(Verdict.NOT_RUN, "the tailored policy is not part of this scale")
    papers = data[data["policy"].isin(PAPERS) & (data["fill"] != "write-allocate")]
    ours = papers[(papers["policy"] == "tailored") & on_frontier(papers)]
    verdict = Verdict.DIFFERS if ours.empty else Verdict.REPRODUCED
    others = data[data["on_frontier"] & ~data["policy"].isin(("tailored", *CLAIRVOYANT))]
    why = (
        f"modelled; {'no' if ours.empty else 'a'} size of memory puts the tailored policy on the frontier of cost and "
        f"latency among the paper's policies (classic ones filled on demand) and systems; beside it who is on the "
        f"frontier of all, {'with' if data[data['policy'] == 'tailored']['on_frontier'].any() else 'without'} tailored"
    )
    return Finding(
        verdict, why, modelled=_points(ours), strong_baseline=_points(others.sort_values("modelled_latency_s"))
    )


def _points(rows: pd.DataFrame) -> str:
    best = rows.assign(what=named(rows)).drop_duplicates("what")
    points = zip(best["what"], best["modelled_latency_s"], best["modelled_total_usd"], strict=True)
    return "; ".join(f"{what}: {seconds:.3g} s, {1e3 * usd:.3g} mUSD" for what, seconds, usd in points)


RULES = {"N2": (Rule("frontier", cost_benefit),)}
