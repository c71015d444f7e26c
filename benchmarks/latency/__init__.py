"""Forty cells: ten workloads on four models, asked of FLStore and of the systems that it is compared with.

``parameters.yaml`` says what is asked and how it is counted. Real servers on loopback, a real federated training, every
request timed at its caller.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.latency import account, floors, show, trace
from benchmarks.latency.parameters import Parameters
from benchmarks.rows import Row

__all__ = ["plots", "run", "table"]


def run(quick: bool = False) -> list[Row]:
    """Latency of every cell by system, the floor of each, and the mean reductions."""
    parameters = Parameters.read(quick)
    requests = pd.concat([trace.measure(model, parameters) for model in parameters.rounds], ignore_index=True)
    least = pd.DataFrame({model: floors.floors(model, parameters) for model in parameters.rounds})
    return [*_cells(requests, least, parameters), *_reductions(requests, parameters)]


def table(rows: list[Row]) -> str:
    """Workload by model and system: the median in milliseconds, and FLStore's ratio to its floor."""
    return show.table(rows)


def plots(rows: list[Row], folder: Path) -> None:
    """Draw the latencies."""
    show.plots(rows, folder)


def _cells(requests: pd.DataFrame, least: pd.DataFrame, parameters: Parameters) -> list[Row]:
    found = account.cells(requests, parameters)
    own = found.xs(("exact", account.OURS), level=("column", "system"))["median_s"]
    rows = []
    for (column, model, workload, system), cell in found.iterrows():
        ours = (column, system) == ("exact", account.OURS)
        floor = least[model].get(workload)
        notes = [
            f"mean {cell.mean_s * 1e3:.4g} ms, 95 %: {cell.low_s * 1e3:.4g} to {cell.high_s * 1e3:.4g} ms",
            f"{cell.asked:.0f} sent for {cell.stands_for:.0f}",
            f"floor {floor * 1e3:.4g} ms" if ours and floor is not None else "",
            "" if cell.equal else "answers differ",
        ]
        rows.append(
            Row(
                show.name_of(model, workload, system, column), cell.median_s * 1e3, "ms",
                peer="" if ours else account.OURS, ratio=None if ours else cell.median_s / own[model, workload],
                note="; ".join(filter(None, notes)), quartiles=(cell.q1_s * 1e3, cell.q3_s * 1e3),
                repetitions=int(cell.asked),
            )
        )  # fmt: skip
    return rows


def _reductions(requests: pd.DataFrame, parameters: Parameters) -> list[Row]:
    rows = []
    for column, cached in (("exact", False), ("exact", True), ("derived", False), ("bfloat16", False)):
        if not (requests["column"] == column).any():
            continue
        found = account.reductions(requests, parameters, column, cached)
        for system in found.columns:
            goal = parameters.goals.get(system) if column == "exact" and not cached else None
            value, note = float(found[system].mean()), f"mean of {len(found)} cells, least {found[system].min():.1%}"
            if goal is not None:
                low, high = account.interval(requests, parameters, system)
                note += f"; 95 %: {low:.1%} to {high:.1%}"
            rows.append(
                Row(
                    f"reduction of latency against {system}, {'cached' if cached else column}", 100 * value, "%",
                    goal=f"at least {goal:.2%}" if goal else "", met=value >= goal if goal else None, note=note,
                )
            )  # fmt: skip
    return rows
