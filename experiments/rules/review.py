"""What the review of the paper asks for."""

from __future__ import annotations

import pandas as pd

from experiments.claims import Claim, Finding, Verdict
from experiments.coldstart import BASELINE, COLD, RESTARTED, STATES, WARM
from experiments.frontier import named
from experiments.integration import LOOP, NAMES
from experiments.load import saturation
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


def carried_to_saturation(claim: Claim, data: pd.DataFrame) -> Finding:
    """Whether every number of functions was offered more than it answers, all from memory, and nothing failed."""
    most = saturation(data)
    failed, misses = int(data["failed"].sum()), int(data["misses"].sum())
    found = "; ".join(f"{n} functions: {row.most_per_s:.3g} requests/s" for n, row in most.iterrows())
    quiet = data.loc[data.groupby("functions")["offered_per_s"].idxmin()]
    why = (
        f"measured on {int(data['cores'].iloc[0])} processors, which all functions share; {len(data)} combinations of "
        f"rate and functions; median latency at the lowest rate {1e3 * quiet['median_s'].max():.3g} ms at most; "
        f"{misses} objects were not in memory, {failed} requests failed"
    )
    if failed or misses:
        return Finding(Verdict.DIFFERS, why, measured=found)
    if not most["saturated"].all():
        short = ", ".join(str(n) for n in most.index[~most["saturated"]])
        return Finding(Verdict.CANNOT, f"{why}; not brought to saturation: {short} functions", measured=found)
    return Finding(Verdict.REPRODUCED, f"the evaluation that is asked for: {why}", measured=found)


def first_answers(claim: Claim, data: pd.DataFrame) -> Finding:
    """Cold, restarted and warm: seconds until the answer; all three have to be there, and warm answers from memory."""
    ours = data[data["system"] == "FLStore"]
    medians = ours.groupby("state")["total_s"].median()
    theirs = data[data["system"] == BASELINE].groupby("state")["total_s"].median()
    found = "; ".join(f"{state.split(':')[0]} {medians[state]:.3g} s" for state in STATES)
    strong = f"ObjStore-Agg: cold {theirs[COLD]:.3g} s, later {theirs[WARM]:.3g} s"
    missed = int(ours[ours["state"] == WARM][["misses", "late_hits"]].to_numpy().sum())
    holds = not missed and medians[WARM] < medians[RESTARTED] < medians[COLD]
    why = f"medians until the first answer; {missed} objects were not in memory when warm"
    return Finding(Verdict.REPRODUCED if holds else Verdict.DIFFERS, why, measured=found, strong_baseline=strong)


def in_a_line(claim: Claim, data: pd.DataFrame) -> Finding:
    """One statement or one import in Flower, and in a second framework; training comes to the same, and is kept.

    A loop of one's own is beside them: it is no framework.
    """
    frameworks = data[data["framework"] != NAMES[LOOP]]
    others = data["lines_changed"] - data["imports_changed"]
    found = "; ".join(
        f"{row.framework}: {count} ({row.imports_changed} more of imports)" if count else f"{row.framework}: one import"
        for row, count in zip(data.itertuples(), others, strict=True)
    )
    if len(frameworks) < 2:
        return Finding(Verdict.NOT_RUN, "a second framework is not part of this scale", measured=found)
    few = (others[frameworks.index].clip(lower=1) <= 1).all()
    whole = bool(data["same_model"].all() and data["answered"].all())
    kept = "; ".join(f"{row.framework}: {row.updates} updates" for row in data.itertuples())
    why = (
        f"lines counted in programs that ran with and without FLStore; their models are "
        f"{'equal bit for bit' if data['same_model'].all() else 'not equal'}; kept: {kept}; the store "
        f"{'answers' if data['answered'].all() else 'does not answer'} about the last round"
    )
    return Finding(Verdict.REPRODUCED if few and whole else Verdict.DIFFERS, why, measured=found)


RULES = {
    "C58": (Rule("integration", in_a_line),),
    "N3": (Rule("integration", in_a_line),),
    "N1": (Rule("load", carried_to_saturation), Rule("coldstart", first_answers)),
    "N2": (Rule("frontier", cost_benefit),),
}
