"""The forty cells as a table and as a figure."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from benchmarks.rows import Row

_NAME = re.compile(r"latency (?P<model>\S+) \[(?P<workload>.+)\]: (?P<system>.+?)(?:, (?P<column>derived|bfloat16))?")


def name_of(model: str, workload: str, system: str, column: str) -> str:
    """The name of a cell's row."""
    return f"latency {model} [{workload}]: {system}" + ("" if column == "exact" else f", {column}")


def frame(rows: list[Row]) -> pd.DataFrame:
    """Median milliseconds and ratio to the floor; one row a cell, system and column."""
    found = []
    for row in rows:
        match = _NAME.fullmatch(row.name)
        if match:
            floor = re.search(r"floor ([\d.e+]+) ms", row.note)
            found.append(
                {
                    **match.groupdict(default="exact"), "ms": row.value,
                    "floors": float(row.value) / float(floor[1]) if floor else float("nan"),
                }
            )  # fmt: skip
    return pd.DataFrame(found)


def table(rows: list[Row]) -> str:
    """A line a model and workload, a column a system."""
    cells = frame(rows)
    cells["who"] = cells["system"] + cells["column"].map(lambda c: "" if c == "exact" else f" {c}")
    order = list(dict.fromkeys(zip(cells["model"], cells["workload"], strict=True)))
    wide = cells.pivot(index=["model", "workload"], columns="who", values="ms").loc[order]
    wide = wide[list(dict.fromkeys(cells["who"]))]
    wide["FLStore / floor"] = cells.dropna(subset="floors").set_index(["model", "workload"])["floors"]
    return "median ms\n" + wide.to_string(float_format=lambda v: f"{v:.4g}", na_rep="")


def plots(rows: list[Row], folder: Path) -> None:
    """Medians by workload, a panel a model, on a logarithmic axis."""
    import seaborn as sns

    cells = frame(rows).query("column == 'exact'")
    grid = sns.catplot(
        cells, kind="bar", x="ms", y="workload", hue="system", col="model", col_wrap=2, palette="colorblind",
        height=5, aspect=1.1, log_scale=True,
    )  # fmt: skip
    grid.set_axis_labels("latency at the caller, median ms (measured, loopback)", "")
    grid.set_titles("{col_name}")
    folder.mkdir(parents=True, exist_ok=True)
    for ending in ("svg", "png"):
        grid.savefig(folder / f"latency.{ending}", dpi=120)
