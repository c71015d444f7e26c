"""How what a replay found looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flstore.display.facts import Sheet
from flstore.display.words import percent, printable, size

if TYPE_CHECKING:
    from flstore.simulator import Outcome


def html(outcome: Outcome) -> str:
    """An outcome for a notebook: its counts, not its rows (``outcome.frame`` has these)."""
    return _sheet(outcome).html()


def text(outcome: Outcome) -> str:
    """The same facts for a terminal."""
    return _sheet(outcome).text()


def _sheet(outcome: Outcome) -> Sheet:
    pairs = [
        ("accesses", f"{outcome.total:,}"),
        ("hits", f"{outcome.hits:,}"),
        ("late hits", f"{outcome.late_hits:,}"),
        ("misses", f"{outcome.misses:,}"),
        ("hit ratio", percent(outcome.hit_ratio)),
        ("loads", f"{outcome.loads:,}"),
        ("peak resident", size(outcome.resident_peak_bytes)),
    ]
    return Sheet(f"Outcome of replaying with policy {printable(outcome.policy)}", pairs)
