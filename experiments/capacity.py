"""Sections 2.2, 4.4 and 4.5: what everything would need in memory, what the tailored policies need, and its price.

The paper's figures are computed from its own inputs and listed prices (:mod:`flstore.cost.capacity`). Beside it, a
replay of the paper's example counts what the tailored policies really hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from flstore.cost.capacity import MIB, arithmetic, functions_for, keep_alive_usd
from flstore.cost.sheets import GIB
from flstore.simulator import participation_trace, replay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCRATCH = 0.25
"""Of a function's memory, left for computing: the default of FLStore."""
TAILORED = "memory with tailored policies, GiB"


def measure(clients: int, per_round: int, rounds: int, seed: int, update_mib: float, function_mib: int) -> pd.DataFrame:
    """Every figure of capacity that the paper prints, and what a replay counts where it can.

    Parameters
    ----------
    clients, per_round, rounds, seed : int
        The trace that is replayed: one request for the whole of each round, as it comes.
    update_mib, function_mib : float, int
        Of an update, and the memory of a function, of which a quarter is left for computing.

    Returns
    -------
    DataFrame
        One row a figure: section, quantity, claim, printed, computed, ratio, counted (empty where nothing is), note.
    """
    trace = participation_trace(clients, per_round, rounds, seed)
    size = round(update_mib * MIB)
    asked = trace.assign(workload="clustering", request=trace["round"], size_bytes=size)
    held = replay(asked, "tailored", participation=trace.assign(size_bytes=size)).resident_peak_bytes
    functions = functions_for(held, function_mib * MIB * (1 - SCRATCH))
    paper = arithmetic().frame()
    own = {
        TAILORED: held / GIB,
        "keeping two functions alive, USD a month": keep_alive_usd(functions),
        "keeping two functions alive, USD an hour": keep_alive_usd(functions, 1),
    }
    computed = float(paper[paper["quantity"] == TAILORED]["computed"].iloc[0])
    whole = {
        "section": "4.4", "quantity": "functions with tailored policies", "printed": 2.0, "claim": "C15",
        "computed": float(functions_for(computed * GIB, function_mib * MIB * (1 - SCRATCH))), "counted": functions,
        "note": f"of {function_mib} MiB, a quarter left for computing; {per_round} of {clients} clients a round",
    }  # fmt: skip
    rows = pd.concat([paper.assign(counted=paper["quantity"].map(own)), pd.DataFrame([whole])], ignore_index=True)
    return rows.assign(ratio=rows["computed"] / rows["printed"]).sort_values(["section", "claim"], ignore_index=True)


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Printed, computed and counted, a row a figure."""
    return data.set_index(["section", "quantity"])[["printed", "computed", "counted", "note"]]


def figure(data: pd.DataFrame) -> Figure:
    """Computed over printed, a dot a figure, on a logarithmic axis; what agrees lies on the line."""
    import matplotlib.pyplot as plt
    from style import COLOURS

    drawn, axes = plt.subplots(figsize=(11, 0.33 * len(data) + 1.8), layout="constrained")
    at = range(len(data))
    axes.axvline(1.0, color="black", linewidth=1, label="as printed by the paper")
    axes.plot(data["ratio"], at, "o", color=COLOURS["FLStore"], label="computed from the paper's inputs")
    counted = data["counted"] / data["printed"]
    axes.plot(counted, at, "s", color=COLOURS["ObjStore-Agg"], fillstyle="none", label="counted in a replay")
    axes.set_yticks(at, [f"{s}: {q}" for s, q in zip(data["section"], data["quantity"], strict=True)], fontsize=9)
    axes.set(xscale="log", xlabel="found / printed", title="Capacity and its price: the paper's arithmetic (modelled)")
    axes.invert_yaxis()
    drawn.legend(loc="outside lower center", ncols=3)
    return drawn
