"""What a run found, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.rows import Row

FORMAT = 1


def document(
    environment: Mapping[str, Any], found: Mapping[str, Iterable[Row]], took_s: Mapping[str, float]
) -> dict[str, Any]:
    """All figures of a run as JSON values.

    Parameters
    ----------
    environment : dict
        Where it took place.
    found : dict of str to rows
        By benchmark.
    took_s : dict of str to float
        Seconds that each benchmark took as a whole.
    """
    results = [
        {"benchmark": name, "took_s": round(took_s[name], 1), "rows": [asdict(r) for r in rows]}
        for name, rows in found.items()
    ]
    return {"format": FORMAT, **environment, "results": results}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a document as JSON."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def table(rows: Iterable[Row]) -> str:
    """Rows as aligned text: figure, quartiles, ratio to the peer, goal."""
    cells: list[tuple[str, ...]] = [("figure", "value", "quartiles", "ratio", "peer", "goal", "")]
    cells += [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    right = (1, 2, 3)
    lines = [
        "  ".join(
            c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    value = row.value if isinstance(row.value, str) else f"{_number(row.value)} {row.unit}".strip()
    quartiles = "" if row.quartiles is None or row.repetitions == 1 else " to ".join(map(_number, row.quartiles))
    ratio = "" if row.ratio is None else f"{row.ratio:.3g} x"
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    return row.name, value, quartiles, ratio, row.peer, row.goal, verdict


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
