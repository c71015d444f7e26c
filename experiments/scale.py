"""Internet scale: what a round of many clients asks of memory, functions and money, and how fast it is replayed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pandas as pd

from flstore.cost.capacity import MIB, functions_for, held_bytes, keep_alive_usd, stored_bytes
from flstore.simulator import mixes, participation_trace, replay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCRATCH = 0.25
EVERYTHING = "everything in memory"


def measure(
    clients: list[int], share: float, rounds: int, seed: int, update_mib: float, function_mib: int
) -> pd.DataFrame:
    """Replay a request for each whole round, as it comes, for pools of so many clients, a `share` of them a round.

    The tailored policy has all the memory that it wants; LRU, filled on ingest, has room for one round, and
    for nine tenths of one. Keeping everything is arithmetic, for the rounds that are replayed.

    Returns
    -------
    DataFrame
        One row a pool and way: clients, per_round, rounds, policy, accesses, hit_ratio, replay_s (measured),
        accesses_per_s, held_bytes, functions, modelled_usd_per_month (keeping them alive).
    """
    size, room = round(update_mib * MIB), function_mib * MIB * (1 - SCRATCH)
    rows = []
    for pool in clients:
        per_round = max(1, round(share * pool))
        trace = participation_trace(pool, per_round, rounds, seed).assign(size_bytes=size)
        asked = mixes.online(trace, "clustering")
        about = {"clients": pool, "per_round": per_round, "rounds": rounds, "accesses": len(asked)}
        ways = {
            "tailored": ("tailored", None),
            "lru, room for a round": ("lru", per_round),
            "lru, room for 0.9 rounds": ("lru", max(1, int(0.9 * per_round))),
        }
        for name, (policy, capacity) in ways.items():
            began = time.perf_counter()
            found = replay(
                asked, policy, capacity, fill="write-allocate", participation=trace, progress=False
            )  # fmt: skip
            took = time.perf_counter() - began
            held = {"policy": name, "hit_ratio": found.hit_ratio, "held_bytes": found.resident_peak_bytes}
            rows.append({**about, **held, "replay_s": took, "accesses_per_s": len(asked) / took})
        everything = stored_bytes(per_round, rounds, size)
        rows.append({**about, "policy": EVERYTHING, "hit_ratio": 1.0, "held_bytes": everything})
        rows.append({**about, "policy": "two rounds (P2, arithmetic)", "held_bytes": held_bytes(per_round, size)})
    data = pd.DataFrame(rows)
    functions = data["held_bytes"].map(lambda held: functions_for(held, room))
    return data.assign(functions=functions, modelled_usd_per_month=functions.map(keep_alive_usd))


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Hit ratio, memory, functions and their price a month, a row a pool and way."""
    columns = ["hit_ratio", "held_bytes", "functions", "modelled_usd_per_month", "accesses_per_s"]
    return data.set_index(["clients", "policy"])[columns]


def figure(data: pd.DataFrame) -> Figure:
    """Memory and its price against the number of clients, on logarithmic axes, and hit ratios."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    drawn, panels = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    order = list(dict.fromkeys(data["policy"]))
    common = {"x": "clients", "hue": "policy", "hue_order": order, "style": "policy", "style_order": order}
    shown = data.assign(held_gib=data["held_bytes"] / (1 << 30))
    for axes, column in zip(panels, ("held_gib", "modelled_usd_per_month", "hit_ratio"), strict=True):
        sns.lineplot(
            shown, y=column, markers=True, palette="colorblind", ax=axes, legend=axes is panels[0], **common
        )  # fmt: skip
        axes.set(xscale="log", xlabel="clients in the pool")
    panels[0].set(yscale="log", ylabel="GiB in memory (counted)")
    panels[1].set(yscale="log", ylabel="USD a month (modelled)")
    panels[2].set(ylabel="hit ratio (counted)", ylim=(-0.03, 1.03))
    panels[0].legend(title=None, fontsize=8)
    rounds, share = int(data["rounds"].iloc[0]), data["per_round"].iloc[0] / data["clients"].iloc[0]
    drawn.suptitle(f"Internet scale: {rounds} rounds, {share:.0%} of the clients a round (replayed; prices modelled)")
    return drawn
