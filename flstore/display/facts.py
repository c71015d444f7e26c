"""What all small displays share: a title, a line when something is wrong, facts, and perhaps a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flstore.display.page import render
from flstore.display.table import View
from flstore.display.words import gauge, listed, printable


@dataclass(frozen=True)
class Sheet:
    """Facts to show, with two faces.

    Attributes
    ----------
    title : str
        What it is.
    pairs : sequence of (str, str)
        Labels and values.
    note : str
        What a reader must not miss; empty for nothing.
    value : View or None
        A table below the facts.
    filled : float or None
        How full a bar below the title is, from 0 to 1; the text has it as characters.
    """

    title: str
    pairs: Sequence[tuple[str, str]]
    note: str = ""
    value: View | None = None
    filled: float | None = None

    def html(self) -> str:
        """For a notebook."""
        bar = None if self.filled is None else round(100 * self.filled, 1)
        return render("facts.html.j2", title=self.title, note=self.note, bar=bar, pairs=self.pairs, value=self.value)

    def text(self) -> str:
        """For a terminal."""
        lines = [self.title, *listed([("error", printable(self.note))] if self.note else [])]
        if self.filled is not None:
            lines.append(f"  {gauge(self.filled)}")
        lines += listed(self.pairs)
        if self.value is not None:
            lines += [self.value.title, *listed(self.value.pairs), self.value.plain]
            lines += [self.value.more] if self.value.more else []
        return "\n".join(lines)
