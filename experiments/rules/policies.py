"""Section 5.5 and appendix C: hits by policy (Table 3), and what a policy is worth (Figure 10)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from experiments.claims import Claim, Finding, Verdict
from experiments.fig10 import CLASSIC, latency
from experiments.rules.common import TOLERANCE_TOTAL, Rule, allowed, percentage

# --- Table 3 --------------------------------------------------------------------------------------------------------


def hits_and_misses(policy_class: str, claim: Claim, data: pd.DataFrame) -> Finding:
    """Hits and misses of the tailored policy; the paper prints ``hits/misses``. Exact in the misses, for every seed."""
    part = data[(data["policy_class"] == policy_class) & (data["access"] == "single")]
    ours = part[part["policy"] == "tailored"]
    fair = part[part["fill"] == "write-allocate"]
    hits, misses = map(int, claim.value.split("/"))
    found = {"measured": _pairs(ours), "strong_baseline": _fair(fair)}
    off = (ours["total"] - (hits + misses)).abs().max()
    if ours.empty or off > TOLERANCE_TOTAL * (hits + misses):
        totals = ", ".join(str(t) for t in sorted(ours["total"].unique())) or "no"
        return Finding(Verdict.CANNOT, f"a trace of {totals} accesses; the paper's has {hits + misses}", **found)
    worst = int(ours["misses"].max())
    how = f"counted in a replay of {len(ours)} traces ({policy_class}, every access a request), misses compared exactly"
    if worst == misses and int(ours["misses"].min()) == misses:
        return Finding(Verdict.REPRODUCED, how, **found)
    return Finding(Verdict.EXCEEDED if worst < misses else Verdict.DIFFERS, how, **found)


def classic_hits(claim: Claim, data: pd.DataFrame) -> Finding:
    """Hits of policies that are filled on demand only, in every class and for every seed; the paper prints 0."""
    part = data[data["access"] == "single"]
    around = part[part["fill"] == "write-around"]
    ran = sorted(set(around["policy"]))
    found = {
        "measured": f"{int(around['hits'].min())} to {int(around['hits'].max())}" if around["hits"].any() else "0",
        "strong_baseline": _fair(part[part["fill"] == "write-allocate"]),
    }
    if around.empty:
        return Finding(Verdict.NOT_RUN, "no policy that is filled on demand only is part of this scale")
    if around["hits"].max() > int(claim.value):
        return Finding(Verdict.DIFFERS, f"{', '.join(ran)} filled on demand do hit", **found)
    why = "no object is asked for twice and filling is on demand only: a property of the trace, not of the policies"
    missing = sorted({"lru", "lfu", "fifo"} - set(ran))
    if missing:
        return Finding(Verdict.NOT_RUN, f"{', '.join(ran)} as printed ({why}); not run: {', '.join(missing)}", **found)
    return Finding(Verdict.REPRODUCED, why, **found)


def _pairs(rows: pd.DataFrame) -> str:
    return ", ".join(
        f"{h}/{m}" for h, m in sorted({(int(h), int(m)) for h, m in zip(rows["hits"], rows["misses"], strict=True)})
    )


def _fair(rows: pd.DataFrame) -> str:
    parts = [f"{policy} filled on ingest: {_pairs(group)}" for policy, group in rows.groupby("policy")]
    return "; ".join(parts)


# --- Figure 10 ------------------------------------------------------------------------------------------------------

OVER_NETWORK = "modelled from a replay: the paper's seconds of computing, a link by name; inference is left out"


def debugging_reduction(claim: Claim, data: pd.DataFrame) -> Finding:
    """Reduction of debugging's latency against LRU and FIFO, in percent; the paper prints one number for both."""
    seconds = latency(data)
    missing = {"tailored", *CLASSIC} - set(seconds.columns)
    if missing or "debugging" not in seconds.index:
        return Finding(Verdict.NOT_RUN, f"not part of this scale: {', '.join(sorted(missing)) or 'debugging'}")
    row = seconds.loc["debugging"]
    found = 100 * (1 - float(row["tailored"]) / float(row[CLASSIC].mean()))  # type: ignore[arg-type]
    why = f"{OVER_NETWORK}; {allowed(float(claim.value))}"
    return Finding(percentage(found, float(claim.value)), why, modelled=f"{found:.2f}")


def limited_beats_classic(claim: Claim, data: pd.DataFrame) -> Finding:
    """Half the memory, and still a lower mean latency than LRU and FIFO on every workload."""
    return _all_lower("tailored-limited", CLASSIC, data, lambda workload: True)


def random_beats_some(claim: Claim, data: pd.DataFrame) -> Finding:
    """A random class beats LRU and FIFO on some workloads, but not on scheduling and incentives."""
    seconds = latency(data)
    if missing := {"random", *CLASSIC} - set(seconds.columns):
        return Finding(Verdict.NOT_RUN, f"not part of this scale: {', '.join(sorted(missing))}")
    better = [str(w) for w in seconds.index if (seconds.loc[w, "random"] < seconds.loc[w, CLASSIC]).all()]
    but = [w for w in better if w.startswith("scheduling") or w == "incentives"]
    verdict = Verdict.REPRODUCED if better and not but else Verdict.DIFFERS
    return Finding(verdict, f"{OVER_NETWORK}; better on: {', '.join(better) or 'none'}", modelled=str(not but).lower())


def _all_lower(who: str, than: list[str], data: pd.DataFrame, counts: Callable[[str], bool]) -> Finding:
    seconds = latency(data)
    if missing := {who, *than} - set(seconds.columns):
        return Finding(Verdict.NOT_RUN, f"not part of this scale: {', '.join(sorted(missing))}")
    judged = [str(w) for w in seconds.index if counts(str(w))]
    if not judged:
        return Finding(Verdict.CANNOT, "no workload of this scale is one that the claim is about")
    worse = [w for w in judged if not (seconds.loc[w, who] < seconds.loc[w, than]).all()]
    why = f"{OVER_NETWORK}; {len(judged)} workloads" + (f", not lower on: {', '.join(worse)}" if worse else "")
    return Finding(Verdict.DIFFERS if worse else Verdict.REPRODUCED, why, modelled=str(not worse).lower())


# --- Appendix C -----------------------------------------------------------------------------------------------------


def one_class_for_all(claim: Claim, data: pd.DataFrame) -> Finding:
    """Whatever class is taken for all, the tailored policy is lower on every workload of another class."""
    seconds = data.pivot(index=["workload", "fits"], columns="policy", values="modelled_latency_s")
    static = [c for c in map(str, seconds) if c.startswith("static ")]
    judged = [(w, fits, c) for w, fits in seconds.index for c in static if not c.endswith(fits)]
    if "tailored" not in seconds or not judged:
        return Finding(Verdict.CANNOT, "no workload of this scale is one that the claim is about")
    worse = [f"{w} ({c})" for w, fits, c in judged if seconds["tailored"][w, fits] >= seconds[c][w, fits]]
    why = f"modelled from a replay, each workload alone; {len(judged)} pairs of a workload and a class of another kind"
    why += f", not lower on: {', '.join(worse)}" if worse else ""
    return Finding(Verdict.DIFFERS if worse else Verdict.REPRODUCED, why, modelled=str(not worse).lower())


RULES = {
    "C37": (Rule("fig10", debugging_reduction),),
    "C38": (Rule("fig10", limited_beats_classic),),
    "C39": (Rule("fig10", random_beats_some),),
    "C40": (Rule("tab03", partial(hits_and_misses, "P2")),),
    "C41": (Rule("tab03", partial(hits_and_misses, "P3")),),
    "C42": (Rule("tab03", partial(hits_and_misses, "P4")),),
    "C43": (Rule("tab03", classic_hits),),
    "C49": (Rule("appc", one_class_for_all),),
}
