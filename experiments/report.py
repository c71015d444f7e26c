"""The report: every experiment's figure and words on one page, with the claims that it decided; opens offline.

``python -m experiments.report --scale smoke`` reads ``results/smoke`` and writes ``results/smoke/report.html``.
"""

from __future__ import annotations

import argparse
import base64
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.claims import Verdict
from experiments.ledger import experiments_in, page_of

SHOWN = ("id", "quantity", "paper", "unit", "measured", "modelled", "strong_baseline", "verdict", "reason")
"""Columns of the ledger that are repeated beside a figure."""


def sections(ledger: pd.DataFrame, outdir: Path) -> Iterator[dict[str, Any]]:
    """Of every experiment that ran: its title, its words before and after the figure, the figure, its claims."""
    decided = ledger["figure"].str.split("/").str[0]
    for about in experiments_in(ledger, outdir):
        folder = outdir / about["name"]
        if not (folder / "figure.svg").exists():
            continue
        before, after = _words(folder / "executed.ipynb")
        picture = base64.b64encode((folder / "figure.svg").read_bytes()).decode("ascii")
        claims = ledger[decided == about["name"]].to_dict("records")
        yield {**about, "before": before, "after": after, "picture": picture, "claims": claims}


def _words(notebook: Path) -> tuple[str, str]:
    """Markdown of a notebook as HTML: what stands before its code, without the heading, and what stands after."""
    import nbformat
    from nbconvert.filters import markdown2html

    cells = nbformat.read(notebook, as_version=4).cells
    first = next((number for number, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))
    parts = [
        "\n\n".join(cell.source for cell in part if cell.cell_type == "markdown")
        for part in (cells[:first], cells[first:])
    ]
    parts[0] = "\n".join(line for line in parts[0].splitlines() if not line.startswith("# "))
    return str(markdown2html(parts[0])), str(markdown2html(parts[1]))


def write(ledger: pd.DataFrame, outdir: Path, scale: str) -> Path:
    """Write ``report.html`` into `outdir`: one file, with its figures in it."""
    counts = Counter(ledger["verdict"])
    page = page_of(
        "report.html.j2",
        scale=scale,
        summary=[(str(v), counts[v]) for v in Verdict],
        columns=SHOWN,
        sections=list(sections(ledger, outdir)),
    )
    path = outdir / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``python -m experiments.report``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args(arguments)
    outdir = options.results / options.scale
    print(write(pd.read_csv(outdir / "ledger.csv", keep_default_na=False), outdir, options.scale))


if __name__ == "__main__":
    main()
