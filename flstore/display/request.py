"""How a request looks that is on its way, or was answered."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from flstore.display.facts import Sheet
from flstore.display.result import record_pairs
from flstore.display.words import milliseconds, printable

if TYPE_CHECKING:
    from flstore.results import RequestFuture

STATES = {"running": "on its way", "done": "answered", "failed": "failed"}


def html(request: RequestFuture) -> str:
    """A request for a notebook: what is known of it by now."""
    return _sheet(request).html()


def text(request: RequestFuture) -> str:
    """The same facts for a terminal."""
    return _sheet(request).text()


def _sheet(request: RequestFuture) -> Sheet:
    record = request.record
    if request.done():
        pairs = [("status", STATES[record.status]), *record_pairs(record)]
    else:
        waited = milliseconds(time.perf_counter() - request.started)
        known = dict(record_pairs(record))
        pairs = [("status", f"{STATES['running']} for {waited}")]
        pairs += [(label, known[label]) for label in ("about", "class", "system", "functions", "objects")]
    return Sheet(f"Request for {printable(record.workload)}", pairs, printable(record.error))
