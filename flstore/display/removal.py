"""How a receipt of what was removed looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flstore.display.facts import Sheet
from flstore.display.words import printable, ranges, size, some

if TYPE_CHECKING:
    from flstore.persistence.removal import Removed


def html(removed: Removed) -> str:
    """What was removed, for a notebook."""
    return _sheet(removed).html()


def text(removed: Removed) -> str:
    """The same facts for a terminal."""
    return _sheet(removed).text()


def _sheet(removed: Removed) -> Sheet:
    pairs = [
        ("updates", f"{removed.updates:,}"),
        ("aggregates", f"{removed.aggregates:,}"),
        ("metadata rows", f"{removed.metadata_rows:,}"),
        ("temporaries", f"{removed.temporaries:,}"),
        ("copies in memory", f"{removed.memory_copies:,}"),
        ("size", size(removed.size_bytes)),
        ("rounds", ranges(removed.rounds)),
        ("clients", some(removed.clients)),
    ]
    return Sheet(f"Removed from job {printable(removed.job)}", pairs)
