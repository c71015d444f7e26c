"""The ledger: every claim of the paper beside what was found, as one HTML page and one CSV file.

``python -m experiments.ledger --scale smoke tab03 fig07`` reads ``results/smoke/<experiment>/data.csv`` and writes
``results/smoke/ledger.html`` and ``ledger.csv``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from experiments.claims import Verdict, read_claims
from experiments.rules import find, source_of

COLUMNS = {
    "id": "id",
    "section": "section",
    "experiment": "experiment",
    "quantity": "quantity",
    "system": "system",
    "baseline": "baseline",
    "paper": "paper",
    "unit": "unit",
    "measured": "measured",
    "modelled": "modelled",
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
        source = source_of(claim)
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
                "figure": f"{source}/figure.svg" if source in data else "",
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write(ledger: pd.DataFrame, outdir: Path, scale: str) -> None:
    """Write ``ledger.html`` and ``ledger.csv`` into `outdir`. The page needs no network and runs no script."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = Counter(ledger["verdict"])
    page = environment.get_template("ledger.html.j2").render(
        scale=scale,
        summary=[(str(v), counts[v]) for v in Verdict],
        columns=COLUMNS,
        rows=ledger.to_dict("records"),
        experiments=sorted({figure.split("/")[0] for figure in ledger["figure"] if figure}),
    )
    outdir.mkdir(parents=True, exist_ok=True)
    (outdir / "ledger.html").write_text(page, encoding="utf-8")
    ledger.to_csv(outdir / "ledger.csv", index=False)


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
