"""How a store's status looks: in a notebook, and as text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from flstore.display import cache_map
from flstore.display.function import memory, share, state
from flstore.display.page import render
from flstore.display.words import (
    WIDTH,
    aligned,
    count,
    gauge,
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

CLOSED = "This store is closed: its functions are stopped; what was ingested is in the persistent store."
CLOSED_HERE = "This store is closed; what was ingested is in the persistent store."
NO_FUNCTIONS = "no cache function is alive"
WITHOUT_FUNCTIONS = "this system has no cache functions"
NO_REQUESTS = "no requests yet"
_CLASS_HEAD = ("class", "requests", "hits", "late hits", "misses", "hit ratio", "median latency")


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
        "status.html.j2", title=printable(status.system), note=_note(status), pairs=_facts(status),
        functions=[_function(f, status.closed) for f in status.functions], no_functions=_no_functions(status),
        copies=any(f.copies for f in status.functions),
        class_head=_CLASS_HEAD, classes=[_class(c) for c in status.classes], no_requests=NO_REQUESTS,
        map=None if status.cache is None else cache_map.drawing(status.cache),
        dashboard=status.dashboard,
    )  # fmt: skip


def text(status: Status) -> str:
    """The same facts for a terminal, in fewer than 100 columns."""
    note = textwrap.wrap(_note(status), WIDTH, initial_indent="  ", subsequent_indent="  ")
    lines = [printable(status.system), *note, *listed(_facts(status)), "functions"]
    for row in (_function(f, status.closed) for f in status.functions):
        lines.append(f"  {shorten(row['name'], 32)}  {row['state']}  {gauge(row['percent'] / 100)} {row['memory']}")
        counts = count(row["updates"], "update"), count(row["aggregates"], "aggregate"), f"{row['metadata']:,} metadata"
        held = f"{', '.join(counts)}; rounds {row['rounds']}"
        if row["copies"]:
            held += f"; {row['copies']:,} of them copies"
        lines += textwrap.wrap(held, WIDTH, initial_indent="    ", subsequent_indent="    ")
    if not status.functions:
        lines.append("  " + _no_functions(status))
    if status.cache is not None and status.rounds:
        lines += cache_map.lines(status.cache)
    lines.append("requests")
    lines += aligned(_CLASS_HEAD, map(_class, status.classes)) if status.classes else ["  " + NO_REQUESTS]
    if status.dashboard:
        lines.append(f"Dask dashboard: {status.dashboard}")
    return "\n".join(lines)


def _no_functions(status: Status) -> str:
    return NO_FUNCTIONS if status.system == "FLStore" else WITHOUT_FUNCTIONS


def _note(status: Status) -> str:
    closed = (CLOSED if status.functions else CLOSED_HERE) if status.closed else ""
    return " ".join(said for said in (closed, printable(status.problem)) if said)


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
    return {
        "name": printable(function.name),
        "state": state(function, closed),
        "memory": memory(function),
        "percent": round(100 * share(function), 1),
        "updates": function.updates,
        "aggregates": function.aggregates,
        "metadata": function.metadata,
        "copies": function.copies,
        "rounds": ranges(function.rounds),
    }


def _class(row: ClassStatus) -> tuple[str, ...]:
    counts = (f"{n:,}" for n in (row.requests, row.hits, row.late_hits, row.misses))
    return (printable(row.policy_class), *counts, percent(row.hit_ratio), milliseconds(row.median_latency_s))
