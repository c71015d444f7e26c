"""How a recorded run looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flstore.display.facts import Sheet
from flstore.display.table import view
from flstore.display.words import count, location, printable, ranges, size

if TYPE_CHECKING:
    from flstore.federated.recording import Recording

_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 60


def html(recording: Recording) -> str:
    """A recording for a notebook."""
    return _sheet(recording).html()


def text(recording: Recording) -> str:
    """The same facts for a terminal."""
    return _sheet(recording).text()


def curve(values: Sequence[float]) -> str:
    """Shares from 0 to 1 as bars of text, the last of several that have to share one; a space for NaN.

    Examples
    --------
    >>> curve([0.0, 0.5, 1.0])
    '▁▅█'
    """
    step = math.ceil(len(values) / _MOST_BARS) or 1
    shown = values[::-1][::step][::-1]
    top = len(_BARS) - 1
    return "".join(" " if math.isnan(v) else _BARS[round(min(1.0, max(0.0, v)) * top + 1e-9)] for v in shown)


def _sheet(recording: Recording) -> Sheet:
    wanted, accuracy = int(recording.arguments["rounds"]), recording.accuracy
    done = len(recording.rounds)
    pairs = [
        ("root", location(recording.root)),
        ("job", printable(recording.job)),
        ("model", printable(recording.model)),
        ("rounds", f"{ranges(recording.rounds)} of {wanted:,}"),
        ("clients", f"{len(recording.clients):,} took part"),
        ("size", size(recording.size_bytes)),
        ("seed", printable(str(recording.arguments.get("seed")))),
    ]
    if accuracy:
        pairs.append(("accuracy", f"{accuracy[0]:.2f} {curve(accuracy)} {accuracy[-1]:.2f}"))
    note = "" if recording.complete else f"{count(wanted - done, 'round')} missing: record() again to go on"
    table = replace(view(recording.frame().round(4)), title="Rounds") if accuracy else None
    return Sheet("Recording", pairs, note, table)
