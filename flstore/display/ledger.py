"""How the ledger of the paper's claims looks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flstore.display.facts import Sheet
from flstore.display.table import view
from flstore.display.words import printable

if TYPE_CHECKING:
    from flstore.reproduction import Ledger

_SHOWN = ["section", "quantity", "paper", "unit", "measured", "modelled", "verdict"]


def html(ledger: Ledger) -> str:
    """A ledger for a notebook."""
    return _sheet(ledger).html()


def text(ledger: Ledger) -> str:
    """The same facts for a terminal."""
    return _sheet(ledger).text()


def _sheet(ledger: Ledger) -> Sheet:
    pairs = [
        ("scale", printable(ledger.scale)),
        ("claims", f"{len(ledger.claims):,}"),
        *((printable(str(verdict)), f"{count:,}") for verdict, count in ledger.counts().items()),
        ("page", printable("/".join(ledger.page.parts[-3:]))),
    ]
    table = replace(view(ledger.claims[_SHOWN].fillna("")), title="Claims")
    return Sheet("Claims of the paper", pairs, "", table)
