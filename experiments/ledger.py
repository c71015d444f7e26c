"""The ledger: every claim of the paper beside what was found, as one HTML page and one CSV file.

``python -m experiments.ledger --scale smoke tab03 fig07`` reads ``results/smoke/<experiment>/data.csv`` and writes
``results/smoke/ledger.html`` and ``ledger.csv``, and a ``README.md`` that shows the figures.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.claims import Verdict, read_claims
from experiments.parameters import heading
from experiments.rules import find

COLUMNS = {
    "id": "id",
    "section": "section",
    "experiment": "experiment",
    "quantity": "quantity",
    "system": "system",
    "baseline": "baseline",
    "paper": "the paper's value",
    "unit": "unit",
    "measured": "ours, measured",
    "modelled": "ours, modelled",
    "strong_baseline": "against a strong baseline",
    "verdict": "verdict",
    "reason": "reason",
    "figure": "figure",
}
"""Columns of the table, with their headings."""


def build(data: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The ledger as a table, one row a claim.

    Parameters
    ----------
    data : mapping of str to DataFrame
        ``data.csv`` of every experiment that ran, by name.
    """
    rows = []
    for claim in read_claims():
        found = find(claim, data)
        rows.append(
            {
                "id": claim.id,
                "section": claim.section,
                "experiment": claim.experiment,
                "quantity": claim.quantity,
                "system": claim.system,
                "baseline": claim.baseline,
                "paper": claim.value,
                "unit": claim.unit,
                "measured": found.measured,
                "modelled": found.modelled,
                "strong_baseline": found.strong_baseline,
                "verdict": str(found.verdict),
                "reason": found.reason,
                "figure": f"{found.source}/figure.svg" if found.source else "",
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write(ledger: pd.DataFrame, outdir: Path, scale: str) -> None:
    """Write ``ledger.html``, ``ledger.csv`` and ``README.md``. The page needs no network and runs no script."""
    counts = Counter(ledger["verdict"])
    shared = {
        "scale": scale,
        "summary": [(str(v), counts[v]) for v in Verdict],
        "experiments": experiments_in(ledger, outdir),
    }
    judged = int(len(ledger) - counts[Verdict.NOT_RUN])
    page = page_of("ledger.html.j2", **shared, judged=judged, columns=COLUMNS, rows=ledger.to_dict("records"))
    command = f"make reproduce SCALE={scale}"
    index = page_of("index.md.j2", **shared, command=command, where=_where(outdir), claims=len(ledger))
    outdir.mkdir(parents=True, exist_ok=True)
    (outdir / "ledger.html").write_text(page, encoding="utf-8")
    (outdir / "README.md").write_text(index, encoding="utf-8")
    ledger.to_csv(outdir / "ledger.csv", index=False)


def _where(outdir: Path) -> str:
    """At what commits, and on what machines, the experiments ran."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(outdir.glob("*/run.json"))]
    commits = {run["git"]["commit"][:9] + " and changes" * run["git"]["modified"] for run in runs if run["git"]}
    known = [run["machine"] for run in runs]
    machines = {f"{m['processor']}, {m['cores']} cores, {m['memory_bytes'] / 1e9:.0f} GB" for m in known}
    at = f" at commit {', '.join(sorted(commits))}" if commits else ""
    return at + (f", on {'; '.join(sorted(machines))}" if machines else "")


def page_of(template: str, **values: Any) -> str:
    """A page from a template beside this file; values are escaped in HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def experiments_in(ledger: pd.DataFrame, outdir: Path) -> list[dict[str, Any]]:
    """Every experiment that ran below `outdir`, or decided on a claim: what of, what it took, how its claims fared."""
    decided = ledger["figure"].str.split("/").str[0]
    ran = {path.parent.name for path in outdir.glob("*/run.json")}
    rows = []
    for name in sorted(ran | set(decided) - {""}):
        record = outdir / name / "run.json"
        run = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        counts = Counter(ledger[decided == name]["verdict"])
        verdicts = [(str(v), counts[v]) for v in Verdict if counts[v]]
        about = {"name": name, "title": _title(outdir / name / "executed.ipynb"), "verdicts": verdicts}
        rows.append({**about, **_size(run.get("parameters", {}), outdir / name / "data.csv"), **_took(run)})
    return sorted(rows, key=_place)


def _place(row: Mapping[str, Any]) -> tuple[int, list[tuple[bool, int | str]]]:
    """Where an experiment belongs: figures, tables, sections and appendices of the paper, then ours."""
    kinds = ("Figure", "Table", "Section", "Appendix")
    kind, _, rest = row["title"].partition(" ")
    if kind not in kinds:
        return len(kinds), [(True, row["title"])]
    parts = rest.partition(":")[0].split(".")
    return kinds.index(kind), [(False, int(part)) if part.isdigit() else (True, part) for part in parts]


def _title(notebook: Path) -> str:
    import nbformat

    return heading(nbformat.read(notebook, as_version=4)) if notebook.exists() else ""


def _size(parameters: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Rounds and clients of each, rows of data (of those that measure: requests), and bytes that requests moved."""
    rows, moved = None, None
    if data.exists():
        frame = pd.read_csv(data)
        rows = len(frame)
        moved = int(frame["bytes_moved"].sum()) if "bytes_moved" in frame else None
    clients = parameters.get("per_round") or parameters.get("clients") or parameters.get("subset")
    return {"rounds": parameters.get("rounds"), "clients": clients, "rows": rows, "bytes": moved}


def _took(run: Mapping[str, Any]) -> dict[str, Any]:
    return {"seconds": run.get("duration_s"), "git": run.get("git")}


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``python -m experiments.ledger``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", help="experiments that ran")
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args(arguments)
    outdir = options.results / options.scale
    ledger = build({name: pd.read_csv(outdir / name / "data.csv") for name in options.experiments})
    write(ledger, outdir, options.scale)
    counts = Counter(ledger["verdict"])
    print(f"{outdir / 'ledger.html'}: {', '.join(f'{counts[v]} {v}' for v in Verdict if counts[v])}")


if __name__ == "__main__":
    main()
