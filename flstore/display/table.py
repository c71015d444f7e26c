"""How values look that have a table: the results of workloads, and whatever else has a ``frame()``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flstore.display.words import WIDTH, listed, printable, shorten

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 20
MOST_COLUMNS = 20
MOST_CHARACTERS = 2000


@dataclass(frozen=True)
class View:
    """A value, ready to be shown.

    Attributes
    ----------
    title : str
        Name of its type.
    pairs : list of (str, str)
        Fields that are single numbers or words.
    html : str or None
        Its table, escaped; None when it has none.
    plain : str
        The table as text, or the beginning of its repr.
    more : str
        How much of it is not shown, empty when all is.
    """

    title: str
    pairs: list[tuple[str, str]]
    html: str | None
    plain: str
    more: str


class Tabular:
    """Base for dataclasses with a ``frame()``, which shows them by their table: :func:`html` and :func:`text`.

    Declare them with ``@dataclass(repr=False)``; otherwise the repr that dataclasses write takes the place of the text.
    """

    def frame(self) -> pd.DataFrame:
        """The table that stands for this object."""
        raise NotImplementedError(f"{type(self).__name__} is to be shown by its table and has no frame()")

    def __repr__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        return html(self)


def html(value: Any) -> str:
    """A value for a notebook: its single fields and the first rows of its ``frame()``, else its repr."""
    from flstore.display.page import render

    return render("facts.html.j2", title="", note="", bar=None, pairs=[], value=view(value))


def text(value: Any) -> str:
    """The same facts for a terminal, in fewer than 100 columns wherever the table's own columns allow it."""
    shown = view(value)
    return "\n".join([shown.title, *listed(shown.pairs), shown.plain, *([shown.more] if shown.more else [])])


def view(value: Any) -> View:
    """What there is to show of a value."""
    frame = _frame(value)
    title = printable(type(value).__name__)
    if frame is None:
        return View(title, [], None, _lines(shorten(repr(value), MOST_CHARACTERS)), "")
    from markupsafe import Markup

    head = frame.iloc[:MOST_ROWS]
    table = head.to_html(border=0, escape=True, max_cols=MOST_COLUMNS, show_dimensions=False, notebook=False)
    plain = head.to_string(line_width=WIDTH, max_cols=MOST_COLUMNS, show_dimensions=False)
    # pandas has escaped the table; all else is escaped by the template.
    return View(title, _scalars(value), Markup(table), _lines(plain), _more(frame))


def _lines(text: str) -> str:
    return "\n".join(printable(line).rstrip() for line in text.splitlines())


def _frame(value: Any) -> pd.DataFrame | None:
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return value
    if isinstance(value, type) or not callable(getattr(value, "frame", None)):
        return None
    return pd.DataFrame(value.frame())


def _more(frame: pd.DataFrame) -> str:
    rows, columns = frame.shape
    parts = [
        f"the first {MOST_ROWS} of {rows:,} rows" if rows > MOST_ROWS else "",
        f"{MOST_COLUMNS} of {columns:,} columns" if columns > MOST_COLUMNS else "",
    ]
    return ", ".join(part for part in parts if part)


def _scalars(value: Any) -> list[tuple[str, str]]:
    """Fields of a dataclass that are one number, one word or nothing."""
    if not dataclasses.is_dataclass(value):
        return []
    found = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.repr)
    return [(name, _word(item)) for name, item in found if item is None or isinstance(item, bool | int | float | str)]


def _word(item: Any) -> str:
    if isinstance(item, float):
        return f"{item:.6g}"
    return shorten(printable(str(item)), 200)
