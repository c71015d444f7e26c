"""Table 1 as a live table: what each workload really asks for, which class that is, and where the paper disagrees.

What the paper says about each application stands in ``tab01.yaml``; what a workload reads is found by asking it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from flstore import workloads
from flstore.policies.taxonomy import CLASS_OF
from flstore.testing.sample_job import SampleJob, sample_job
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads import Scope, Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASK = {"model": "flstore.testing.sample_task:model", "data": "flstore.testing.sample_task:data"}
CLASSES = [str(c) for c in PolicyClass]
NONE = ""


def measure(round: int, client: str) -> pd.DataFrame:
    """Ask every workload what it would read of a sample job (four rounds of five clients), about this round or client.

    Returns
    -------
    DataFrame
        One row an application of the paper: application, table1, elsewhere (classes that the paper gives, with the
        section), workload, reads (in words), class_by_reads (observed), class_here (of the taxonomy, which chooses
        the policy; of the instance, where a parameter decides), paper_agrees_with_itself, contradiction.
    """
    import yaml

    told = yaml.safe_load((Path(__file__).parent / "tab01.yaml").read_text(encoding="utf-8"))["applications"]
    job, rows = sample_job(), []
    for entry in told:
        elsewhere = entry["elsewhere"]
        named = {*entry["table1"], *(c for classes in elsewhere.values() for c in classes)}
        found = {"workload": NONE, "reads": NONE, "class_by_reads": NONE, "class_here": NONE}
        if entry["workload"]:
            found = _observed(entry["workload"], entry.get("ask", {}), job, round, client)
        rows.append(
            {
                "application": entry["application"], "table1": " ".join(entry["table1"]),
                "elsewhere": "; ".join(f"{' '.join(classes)} ({where})" for where, classes in elsewhere.items()),
                **found, "paper_agrees_with_itself": len(named) <= 1 and "contradiction" not in entry,
                "contradiction": entry.get("contradiction", NONE),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def class_of_reads(keys: Iterable[Key]) -> str:
    """The class of an access pattern: metadata alone is P4, one object P1, one round P2, several rounds P3.

    Examples
    --------
    >>> class_of_reads([Key("job", Kind.UPDATE, 3, "a"), Key("job", Kind.UPDATE, 3, "b")])
    'P2'
    """
    read = list(keys)
    updates = [key for key in read if key.kind is Kind.UPDATE]
    if all(key.kind is Kind.METADATA for key in read):
        return "P4"
    if len(updates) <= 1:
        return "P1"
    return "P2" if len({key.round for key in updates}) == 1 else "P3"


def _observed(name: str, ask: dict[str, Any], job: SampleJob, round: int, client: str) -> dict[str, str]:
    fields = inspect.signature(workloads.get(name)).parameters
    task = {k: v for k, v in TASK.items() if k in fields and "by" not in ask}
    workload = workloads.make(name, **{**task, **ask})
    keys = _needs(workload, job, round, client)
    return {
        "workload": name + "".join(f" {key}={value}" for key, value in ask.items()), "reads": _words(keys),
        "class_by_reads": class_of_reads(keys), "class_here": str(workload.policy_class),
    }  # fmt: skip


def _needs(workload: Workload, job: SampleJob, round: int, client: str) -> list[Key]:
    """What it reads when it is asked about a round; one that follows a client is asked about the client."""
    lineage = CLASS_OF[workload.name] is PolicyClass.P3
    scope = Scope(job.name, client=client) if lineage else Scope(job.name, round=round)
    return list(workload.needs(scope, job))


def _words(keys: list[Key]) -> str:
    def some(kind: Kind, name: str) -> str:
        of = [key for key in keys if key.kind is kind]
        rounds = len({key.round for key in of})
        return (
            f"{len(of)} {name}{'s' if len(of) > 1 else ''} of {rounds} round{'s' if rounds > 1 else ''}" if of else ""
        )

    kinds = {Kind.UPDATE: "update", Kind.AGGREGATE: "aggregate", Kind.METADATA: "metadata row"}
    return ", ".join(text for kind, name in kinds.items() if (text := some(kind, name)))


def table(data: pd.DataFrame) -> pd.DataFrame:
    """The table, by application."""
    return data.set_index("application")


def figure(data: pd.DataFrame) -> Figure:
    """Classes by application: what Table 1 says (square), what the paper says elsewhere (cross), what is read (dot)."""
    import matplotlib.pyplot as plt
    from style import COLOURS

    drawn, axes = plt.subplots(figsize=(8, 0.34 * len(data) + 1.6), layout="constrained")
    looks = {
        "table1": {"marker": "s", "color": "black", "fillstyle": "none", "markersize": 13, "label": "paper, Table 1"},
        "elsewhere": {"marker": "x", "color": "black", "markersize": 8, "label": "paper, elsewhere"},
        "class_by_reads": {"marker": "o", "color": COLOURS["FLStore"], "markersize": 6, "label": "what is read here"},
    }
    for column, look in looks.items():
        at = [
            (CLASSES.index(name), row)
            for row, text in enumerate(data[column])
            for name in CLASSES
            if name in str(text)
        ]  # fmt: skip
        axes.plot(*zip(*at, strict=True), linestyle="none", **look)
    for row in data.index[~data["paper_agrees_with_itself"]]:
        axes.axhspan(row - 0.5, row + 0.5, color=COLOURS["ObjStore-Agg"], alpha=0.25, linewidth=0)
    axes.set_xticks(range(len(CLASSES)), CLASSES)
    axes.set_yticks(range(len(data)), data["application"])
    axes.set(xlim=(-0.5, len(CLASSES) - 0.5), ylim=(len(data) - 0.5, -0.5))
    title = "Table 1: classes of access patterns (measured: what workloads ask for)"
    axes.set_title(f"{title}\nshaded: the paper disagrees with itself")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn
