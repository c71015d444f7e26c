"""How a store's status looks: in a notebook, and as text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from flstore.display.page import render
from flstore.display.words import (
    WIDTH,
    aligned,
    count,
    listed,
    location,
    milliseconds,
    percent,
    printable,
    ranges,
    shorten,
    size,
)

if TYPE_CHECKING:
    from flstore.status import ClassStatus, FunctionStatus, Status

CLOSED = "This store is closed: its functions are stopped, and what was ingested is in the persistent store."
NO_FUNCTIONS = "no cache function is alive"
NO_REQUESTS = "no requests yet"
_CLASS_HEAD = ("class", "requests", "hits", "late hits", "misses", "hit ratio", "median latency")
_GAUGE = 12


def html(status: Status) -> str:
    """A status for a notebook: escaped, without scripts, in the colours of its page.

    Examples
    --------
    >>> from flstore.status import Status
    >>> status = Status("memory://a", "digits", "lru", True, 0, 0, None, 0, (), ())
    >>> "<td>digits</td>" in html(status)
    True
    """
    return render(
        "status.html.j2", title="FLStore", note=_note(status), pairs=_facts(status),
        functions=[_function(f, status.closed) for f in status.functions], no_functions=NO_FUNCTIONS,
        copies=any(f.copies for f in status.functions),
        class_head=_CLASS_HEAD, classes=[_class(c) for c in status.classes], no_requests=NO_REQUESTS,
    )  # fmt: skip


def text(status: Status) -> str:
    """The same facts for a terminal, in fewer than 100 columns."""
    lines = ["FLStore", *(["  " + _note(status)] if status.closed else []), *listed(_facts(status)), "functions"]
    for row in (_function(f, status.closed) for f in status.functions):
        filled = round(_GAUGE * row["percent"] / 100)
        lines.append(f"  {shorten(row['name'], 32)}  {row['state']}  [{'#' * filled:.<{_GAUGE}}] {row['memory']}")
        counts = count(row["updates"], "update"), count(row["aggregates"], "aggregate"), f"{row['metadata']:,} metadata"
        held = f"{', '.join(counts)}; rounds {row['rounds']}"
        if row["copies"]:
            held += f"; {row['copies']:,} of them copies"
        lines += textwrap.wrap(held, WIDTH, initial_indent="    ", subsequent_indent="    ")
    if not status.functions:
        lines.append("  " + NO_FUNCTIONS)
    lines.append("requests")
    lines += aligned(_CLASS_HEAD, map(_class, status.classes)) if status.classes else ["  " + NO_REQUESTS]
    return "\n".join(lines)


def _note(status: Status) -> str:
    return CLOSED if status.closed else ""


def _facts(status: Status) -> list[tuple[str, str]]:
    latest = "" if status.latest_round is None else f", latest {status.latest_round}"
    durable = f"{size(status.pending_bytes)} not yet durable" if status.pending_bytes else "everything is durable"
    return [
        ("job", printable(status.job)),
        ("root", location(status.root)),
        ("policy", printable(status.policy)),
        ("holds", f"{count(status.rounds, 'round')}{latest}; {count(status.clients, 'client')}"),
        ("writes", durable),
    ]


def _function(function: FunctionStatus, closed: bool) -> dict[str, Any]:
    share = function.used_bytes / function.capacity_bytes if function.capacity_bytes else 0.0
    return {
        "name": printable(function.name),
        "state": _state(function, closed),
        "memory": f"{size(function.used_bytes)} of {size(function.capacity_bytes)} ({percent(share)})",
        "percent": round(100 * min(1.0, max(0.0, share)), 1),
        "updates": function.updates,
        "aggregates": function.aggregates,
        "metadata": function.metadata,
        "copies": function.copies,
        "rounds": ranges(function.rounds),
    }


def _state(function: FunctionStatus, closed: bool) -> str:
    if not function.alive:
        return "stopped" if closed else "not alive"
    return "leaving" if function.leaving else "alive"


def _class(row: ClassStatus) -> tuple[str, ...]:
    counts = (f"{n:,}" for n in (row.requests, row.hits, row.late_hits, row.misses))
    return (printable(row.policy_class), *counts, percent(row.hit_ratio), milliseconds(row.median_latency_s))
