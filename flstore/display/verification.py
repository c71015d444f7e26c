"""How the report on a root looks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from flstore.display.facts import Sheet
from flstore.display.table import view
from flstore.display.words import count, location, printable, size

if TYPE_CHECKING:
    from flstore.persistence.verify import Verification

_SHOWN = ["finding", "path", "reason"]


def html(found: Verification) -> str:
    """A verification for a notebook."""
    return _sheet(found).html()


def text(found: Verification) -> str:
    """The same facts for a terminal."""
    return _sheet(found).text()


def _sheet(found: Verification) -> Sheet:
    pairs = [
        ("root", location(found.root)),
        ("job", "all" if found.job is None else printable(found.job)),
        ("objects", f"{found.objects:,}"),
        ("size", size(found.size_bytes)),
        ("damaged", f"{len(found.damaged):,}"),
        *([("healed", f"{len(found.healed):,}")] if found.healed else []),
        ("stray", f"{len(found.stray):,}"),
        ("temporaries", f"{len(found.temporaries):,}"),
    ]
    counted = [(found.damaged, "damaged object"), (found.healed, "healed object")]
    said = [count(len(some), what) for some, what in counted if some]
    note = f"{', '.join(said)}, see below" if said else ""
    frame = found.frame()
    table = replace(view(frame[_SHOWN]), title="Findings") if len(frame) else None
    return Sheet("Verification", pairs, note, table)
