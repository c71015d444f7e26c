"""How a cache function looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flstore.display.facts import Sheet
from flstore.display.words import count, percent, printable, ranges, size

if TYPE_CHECKING:
    from flstore.status import FunctionStatus

GONE = "it is stopped, or does not answer: what it held is in the persistent store"


def html(function: FunctionStatus) -> str:
    """A function for a notebook, with a bar for its memory."""
    return _sheet(function).html()


def text(function: FunctionStatus) -> str:
    """The same facts for a terminal."""
    return _sheet(function).text()


def share(function: FunctionStatus) -> float:
    """The part of its memory that is used, from 0 to 1."""
    used = function.used_bytes / function.capacity_bytes if function.capacity_bytes else 0.0
    return min(1.0, max(0.0, used))


def state(function: FunctionStatus, closed: bool = False) -> str:
    """Whether it is alive, in one or two words; `closed` when its store is."""
    if not function.alive:
        return "stopped" if closed else "not alive"
    return "leaving" if function.leaving else "alive"


def memory(function: FunctionStatus) -> str:
    """How much of its memory is used, in words."""
    used = function.used_bytes / function.capacity_bytes if function.capacity_bytes else 0.0
    return f"{size(function.used_bytes)} of {size(function.capacity_bytes)} ({percent(used)})"


def _sheet(function: FunctionStatus) -> Sheet:
    held = count(function.updates, "update"), count(function.aggregates, "aggregate"), f"{function.metadata:,} metadata"
    pairs = [
        ("state", state(function)),
        ("memory", memory(function)),
        ("holds", ", ".join(held)),
        *([("copies", f"{function.copies:,} of them")] if function.copies else []),
        ("rounds", ranges(function.rounds)),
    ]
    note = "" if function.alive else GONE
    return Sheet(f"Cache function {printable(function.name)}", pairs, note, filled=share(function))
