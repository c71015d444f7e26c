"""What a run found, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.rows import Row

FORMAT = 2


def result(name: str, environment: Mapping[str, Any], rows: Iterable[Row], took_s: float) -> dict[str, Any]:
    """The figures of one benchmark as JSON values.

    Parameters
    ----------
    name : str
        Of the benchmark.
    environment : dict
        Where and when it took place, and of which commit.
    rows : iterable of Row
        What was found.
    took_s : float
        Seconds that it took as a whole.
    """
    return {"benchmark": name, **environment, "took_s": round(took_s, 1), "rows": [asdict(row) for row in rows]}


def update(path: Path, found: Mapping[str, Any], order: Sequence[str]) -> None:
    """Put a result into a file of results, in place of the one of the same benchmark.

    Raises
    ------
    ValueError
        The file is of another format.
    """
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"format": FORMAT, "results": []}
    if content["format"] != FORMAT:
        raise ValueError(f"{path} is of format {content['format']}, not {FORMAT}; name another --output, or remove it")
    kept = [other for other in content["results"] if other["benchmark"] != found["benchmark"]]
    content["results"] = sorted([*kept, found], key=lambda r: order.index(r["benchmark"]))
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
