"""Forty cells: ten workloads on four models, asked of FLStore and of the systems that it is compared with.

``parameters.yaml`` says what is asked and how it is counted. Real servers on loopback, a real federated training, every
request timed at its caller.
"""

from __future__ import annotations

import pandas as pd

from benchmarks.latency import account, floors, trace
from benchmarks.latency.parameters import Parameters
from benchmarks.rows import Row

MINUTES = 45


def run(quick: bool = False) -> list[Row]:
    """Latency of every cell by system, the floor of each, and the mean reductions."""
    parameters = Parameters.read(quick)
    requests = pd.concat([trace.measure(model, parameters) for model in parameters.rounds], ignore_index=True)
    least = pd.DataFrame({model: floors.floors(model, parameters) for model in parameters.rounds})
    return [*_cells(requests, least, parameters), *_means(requests, parameters)]


def _cells(requests: pd.DataFrame, least: pd.DataFrame, parameters: Parameters) -> list[Row]:
    found = account.cells(requests, parameters)
    rows = []
    for (column, model, workload, system), cell in found.iterrows():
        own = found["mean_s"].get(("exact", model, workload, account.OURS))
        floor = least[model].get(workload) if column == "exact" and system == account.OURS else None
        notes = [
            f"median {cell.median_s * 1e3:.4g} ms",
            f"95 % of the mean {cell.low_s * 1e3:.4g} to {cell.high_s * 1e3:.4g} ms",
            f"{cell.asked} sent for {cell.stands_for:.0f}",
            "" if floor is None else f"floor {floor * 1e3:.4g} ms", "" if cell.equal else "answers differ",
        ]  # fmt: skip
        other = system != account.OURS or column != "exact"
        rows.append(
            Row(
                f"latency {model} {workload}: {system}" + (f", {column}" if column != "exact" else ""),
                cell.mean_s * 1e3, "ms", peer=account.OURS if other else "", ratio=cell.mean_s / own if other else None,
                note="; ".join(filter(None, notes)), quartiles=(cell.q1_s * 1e3, cell.q3_s * 1e3),
                repetitions=int(cell.asked),
            )
        )  # fmt: skip
    return rows


def _means(requests: pd.DataFrame, parameters: Parameters) -> list[Row]:
    rows = []
    for column, cached in (("exact", False), ("exact", True), ("derived", False), ("bfloat16", False)):
        if not (requests["column"] == column).any():
            continue
        found = account.reductions(requests, parameters, column, cached)
        for system in found.columns:
            goal = parameters.goals.get(system) if column == "exact" and not cached else None
            value = float(found[system].mean())
            low, high = account.interval(requests, parameters, system) if goal else (value, value)
            rows.append(
                Row(
                    f"reduction of latency against {system}, {'cached' if cached else column}", 100 * value, "%",
                    goal=f"at least {goal:.2%}" if goal else "", met=value >= goal if goal else None,
                    note=f"mean of {len(found)} cells, least {found[system].min():.1%}"
                    + (f"; 95 %: {low:.1%} to {high:.1%}" if goal else ""),
                )
            )  # fmt: skip
    return rows
