"""How a cache map looks: an SVG inside the page, and letters in a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flstore.display.page import render
from flstore.display.words import count

if TYPE_CHECKING:
    from flstore.cache_map import CacheMap

TIERS = ("absent", "stored", "loading", "cached")
"""In the order of their numbers."""
EMPTY = "no client updates yet"
_MARKS = " .o#"
_TEXT_ROWS, _TEXT_COLUMNS = 10, 90
_WIDTH, _HEIGHT = 720, 200
_CELL_WIDTH, _CELL_HEIGHT = 48, 14


@dataclass(frozen=True)
class Drawing:
    """A cache map as a template needs it.

    Attributes
    ----------
    caption, first, last : str
        What it shows; the round at its left and at its right side.
    columns, rows : int
        Cells.
    width, height : int
        Pixels.
    paths : list of (str, str)
        A tier and the SVG path of all its cells.
    legend : list of (str, str)
        A tier and how many updates are there.
    """

    caption: str
    first: str
    last: str
    columns: int
    rows: int
    width: int
    height: int
    paths: list[tuple[str, str]]
    legend: list[tuple[str, str]]


def html(shown: CacheMap) -> str:
    """A cache map for a notebook."""
    return render("cache_map.html.j2", map=drawing(shown))


def text(shown: CacheMap) -> str:
    """The same facts for a terminal, in fewer than 100 columns."""
    return "\n".join(lines(shown))


def lines(shown: CacheMap) -> list[str]:
    """The text, line by line."""
    if not shown.tiers.size:
        return ["cache map", f"  {EMPTY}"]
    small = _shrunk(_shrunk(shown.tiers, _TEXT_ROWS).T, _TEXT_COLUMNS).T
    picture = ["  |" + "".join(_MARKS[tier] for tier in row) + "|" for row in small.tolist()]
    first, last = _ends(shown)
    axis = f"  {first}{last:>{max(len(last) + 1, small.shape[1] + 2 - len(first))}}"
    key = ", ".join(f"{name} {_MARKS[i]!r} {shown.counts[i]:,}" for i, name in enumerate(TIERS))
    return ["cache map", *picture, axis, f"  {key}"]


def drawing(shown: CacheMap) -> Drawing | None:
    """What the template draws; None for a job without updates."""
    if not shown.tiers.size:
        return None
    rows, columns = shown.tiers.shape
    many = int(shown.counts[1:].sum())
    first, last = _ends(shown)
    caption = f"Cache map: {count(many, 'update')}, {count(shown.clients, 'client')} (rows, in order of appearance)"
    if shown.clients > rows or (shown.rounds[:, 0] != shown.rounds[:, 1]).any():
        caption += "; a cell stands for several and shows the nearest"
    return Drawing(
        caption, first, last, columns, rows,
        width=columns * min(_CELL_WIDTH, max(1, _WIDTH // columns)),
        height=rows * min(_CELL_HEIGHT, max(1, _HEIGHT // rows)),
        paths=[(TIERS[tier], _path(shown.tiers == tier)) for tier in (1, 2, 3) if (shown.tiers == tier).any()],
        legend=[(TIERS[tier], f"{shown.counts[tier]:,}") for tier in (3, 2, 1, 0)],
    )  # fmt: skip


def _ends(shown: CacheMap) -> tuple[str, str]:
    return f"round {shown.rounds[0, 0]}", f"round {shown.rounds[-1, 1]}"


def _path(cells: NDArray[np.bool_]) -> str:
    """Rectangles around all runs of cells in a row."""
    edges = np.diff(np.pad(cells, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    runs = zip(starts.tolist(), ends.tolist(), strict=True)
    return "".join(f"M{x} {y}h{end - x}v1h-{end - x}z" for (y, x), (_, end) in runs)


def _shrunk(cells: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """At most so many rows, each the nearest tier of those that it stands for."""
    if len(cells) <= most:
        return cells
    starts = np.searchsorted(np.arange(len(cells)) * most // len(cells), np.arange(most))
    merged: NDArray[np.uint8] = np.maximum.reduceat(cells, starts, axis=0)
    return merged
