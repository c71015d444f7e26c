"""What a request costs at the paper's scale: modelled, from counted bytes, measured seconds and listed prices."""

from __future__ import annotations

import pandas as pd

from benchmarks.rows import Row
from flstore.cost import paper

NOTE = "modelled; mean of ten workloads"


def run(quick: bool = False) -> list[Row]:
    """Cost of a request and of an idle hour by system and model, and the paper's two claims in each scenario."""
    frame = paper.table()
    return [row for system in frame.index.unique("system") for row in _of(system, frame)] + _claims()


def _of(system: str, frame: pd.DataFrame) -> list[Row]:
    """Two rows a model: requests, and the time between them; FLStore against each other system is in the claims."""
    rows = []
    for model, found in frame.loc[system].iterrows():
        latency, usd = found["modelled_latency_s"], found["modelled_usd_per_request"]
        note = f"{NOTE}; latency {latency:.3g} s; PUTs of a run {found['modelled_puts_usd']:.2f} USD"
        rows.append(Row(f"cost of a request, {system}, {model}", 1e6 * usd, "uUSD", note=note))
        hour = found["modelled_idle_usd_per_hour"]
        rows.append(Row(f"cost of an idle hour, {system}, {model}", 1e3 * hour, "mUSD", note="modelled"))
    return rows


def _claims() -> list[Row]:
    rows = []
    for claim in paper.claims().frame().to_dict("records"):
        mean, least = claim["modelled_mean_reduction"], claim["modelled_least_reduction"]
        rows.append(
            Row(
                f"cost reduction against {claim['baseline']}, {claim['scenario']}", 100 * mean,
                "%", goal=f"at least {claim['printed_reduction']:.2%} (printed)", met=bool(claim["reached"]),
                note=f"modelled; mean of forty cells, least {least:.1%}; {claim['link']}, "
                f"{'idle cost shared among the requests' if claim['idle'] else 'requests alone'}",
            )
        )  # fmt: skip
    return rows
