"""Appendix C: one class of policy for everything (FLStore-Static) against the class that fits each workload, modelled.

Figure 10 of the paper has workloads of class P2 nearly alone, which a static P2 serves as well. Here every class has a
workload, and each of the four classes is the static one in turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flstore import policies
from flstore.policies.taxonomy import CLASS_OF
from flstore.simulator import mixes, participation_trace, replay
from flstore.simulator.studies import client_of, update_bytes
from flstore.types import PolicyClass

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TAILORED = "tailored"
METADATA_BYTES = 1000
"""Of what a client says about its round; it weighs nothing beside an update."""


def measure(
    clients: int,
    per_round: int,
    rounds: int,
    seed: int,
    model: str,
    workloads: list[str],
    classes: list[str],
    hours: float,
    link: str,
) -> pd.DataFrame:
    """Every workload alone under the tailored policy and under each static class, with memory for three rounds.

    A workload of class P2 or P4 asks for each round as it comes, lineage for one client's updates, one after the
    other, after training. Nothing is counted for computing, which is the same under all policies.

    Returns
    -------
    DataFrame
        One row a workload and policy: workload, fits (its class), policy, requests, hit_ratio, late_ratio,
        modelled_latency_s and modelled_cost_usd (means).
    """
    participation, size, rows = participation_trace(clients, per_round, rounds, seed), int(update_bytes(model)), []
    for workload in workloads:
        lineage = CLASS_OF[workload] is PolicyClass.P3
        trace = participation.assign(size_bytes=METADATA_BYTES if CLASS_OF[workload] is PolicyClass.P4 else size)
        asked = mixes.lineage(trace, [client_of(trace)]) if lineage else mixes.online(trace, workload)
        timed = {
            "link": link, "interval_s": hours * 3600 / asked["request"].nunique(), "participation": trace,
            "ingest": "posthoc" if lineage else "online",
        }  # fmt: skip
        for name in [TAILORED, *classes]:
            policy = TAILORED if name == TAILORED else policies.make("static", policy_class=name)
            found = replay(asked, policy, capacity_bytes=3 * per_round * size, **timed)  # type: ignore[arg-type]
            cost = found.cost()
            rows.append(
                {
                    "workload": workload, "fits": str(CLASS_OF[workload]),
                    "policy": TAILORED if name == TAILORED else f"static {name}", "requests": len(cost),
                    "hit_ratio": found.hit_ratio, "late_ratio": found.late_hits / found.total,
                    "modelled_latency_s": float(cost["modelled_latency_s"].mean()),
                    "modelled_cost_usd": float(cost["modelled_cost_usd"].mean()),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Hit ratio, a row a workload with its class, a column a policy."""
    return data.pivot_table(index=["fits", "workload"], columns="policy", values="hit_ratio", sort=False)


def figure(data: pd.DataFrame) -> Figure:
    """Modelled seconds until the data is there by workload and policy; hatched where the static class fits."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    order = list(dict.fromkeys(data["policy"]))
    shown = data.assign(shown=data["workload"] + "\n(" + data["fits"] + ")")
    colours = dict(zip(order, sns.color_palette("colorblind", len(order)), strict=True))
    drawn, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    sns.barplot(shown, x="shown", y="modelled_latency_s", hue="policy", palette=colours, ax=axes)
    for policy, bars in zip(order, axes.containers, strict=True):
        for bar, fits in zip(bars, data[data["policy"] == policy]["fits"], strict=True):
            bar.set_hatch("//" if policy.endswith(fits) else "")
    axes.set(xlabel="", ylabel="modelled wait for the data, s")
    axes.set_title("Appendix C: one class for everything (modelled from a replay; // = the class that fits)")
    axes.legend(title=None, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn
