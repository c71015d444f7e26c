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
        ("from the store", size(outcome.bytes_from_store)),
        ("peak resident", size(outcome.resident_peak_bytes)),
    ]
    if outcome.requests is not None and len(outcome.requests):
        median, most = outcome.latency((0.5, 0.99)).tolist()
        pairs.append(("latency, modelled", f"{median:.3g} s median, {most:.3g} s at 99 %"))
        pairs.append(("cost, modelled", f"{outcome.cost()['modelled_cost_usd'].mean():.3g} USD a request"))
    return Sheet(f"Outcome of replaying with policy {printable(outcome.policy)}", pairs)
