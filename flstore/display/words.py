"""Numbers and names in words: what the HTML and the text of an object share, so that both say the same."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise

WIDTH = 99
"""Columns that a text twin may use."""
MOST_RANGES = 6
"""Ranges of rounds that are spelled out; more are shortened in the middle, because all of them are in the data."""

_GAUGE = 12
_USERINFO = re.compile(r"(?<=://)[^/\s]*@")
_QUERY = re.compile(r"(?<=://)([^?\s]*)\?.*", re.DOTALL)


def count(number: int, noun: str) -> str:
    """``1 update``, ``2 updates``, ``1 miss``, ``2 misses``."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural}"


def size(size_bytes: int) -> str:
    """Bytes for people: ``46.80 MiB``."""
    from dask.utils import format_bytes

    return str(format_bytes(size_bytes))


def percent(ratio: float) -> str:
    """``99.5 %``; a dash for NaN. Rounds towards the middle: only all is 100 %, only nothing is 0 %."""
    if math.isnan(ratio):
        return "-"
    tenths = round(ratio * 1000)
    if 0 < ratio < 1:
        tenths = min(999, max(1, tenths))
    return f"{tenths / 10:.1f} %"


def milliseconds(seconds: float) -> str:
    """``12.3 ms``; a dash for NaN."""
    return "-" if math.isnan(seconds) else f"{seconds * 1e3:,.1f} ms"


def gauge(share: float) -> str:
    """A bar of twelve characters.

    Examples
    --------
    >>> gauge(0.25)
    '[###.........]'
    """
    return f"[{'#' * round(_GAUGE * share):.<{_GAUGE}}]"


def ranges(numbers: Iterable[int], most: int = MOST_RANGES) -> str:
    """Integers as ranges, shortened in the middle; a dash for none.

    Examples
    --------
    >>> ranges([3, 4, 5, 9])
    '3-5, 9'
    >>> ranges(range(0, 100, 2), most=4)
    '0, 2, ..., 96, 98'
    """
    ordered = sorted(set(numbers))
    if not ordered:
        return "-"
    starts = [ordered[0], *(b for a, b in pairwise(ordered) if b != a + 1)]
    ends = [*(a for a, b in pairwise(ordered) if b != a + 1), ordered[-1]]
    words = [f"{a}" if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)]
    if len(words) > most:
        words = [*words[: most // 2], "...", *words[len(words) - most // 2 :]]
    return ", ".join(words)


def some(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many more there are; a dash for none."""
    shown = ", ".join(map(printable, names[:most])) or "-"
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def printable(text: str) -> str:
    """A text on one line, without the control characters that would move a terminal's cursor or colour it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def location(root: str) -> str:
    """A path or URL without its user part and its query, either of which can hold credentials."""
    return printable(_QUERY.sub(r"\1", _USERINFO.sub("", root)))


def shorten(text: str, width: int) -> str:
    """A text of at most `width` characters; a longer one loses its end."""
    return text if len(text) <= width else text[: width - 3] + "..."


def listed(facts: Iterable[tuple[str, str]]) -> list[str]:
    """Aligned lines of labels and values; long values go on below themselves."""
    facts = list(facts)
    column = max((len(label) for label, _ in facts), default=0) + 2
    lines = []
    for label, value in facts:
        pieces = textwrap.wrap(value, WIDTH - column - 2, break_on_hyphens=False) or [""]
        lines += [f"  {(label if i == 0 else ''):<{column}}{piece}".rstrip() for i, piece in enumerate(pieces)]
    return lines


def aligned(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, all others (numbers) to the right."""
    table = [list(head), *map(list, rows)]
    columns = list(zip(*table, strict=True))
    padded = [_column(column, "<" if i == 0 else ">") for i, column in enumerate(columns)]
    return ["  " + "  ".join(row).rstrip() for row in zip(*padded, strict=True)]


def _column(cells: Sequence[str], side: str) -> list[str]:
    width = max(map(len, cells))
    return [f"{cell:{side}{width}}" for cell in cells]
