"""How a monitor looks: in a notebook, and as text."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from flstore.display import cache_map
from flstore.display.function import memory, share, state
from flstore.display.page import render
from flstore.display.status import NO_FUNCTIONS
from flstore.display.words import WIDTH, count, gauge, listed, location, percent, printable, shorten, size

if TYPE_CHECKING:
    from flstore.monitor import Glance
    from flstore.status import FunctionStatus

SILENT = "does not answer"


def html(glance: Glance) -> str:
    """What a monitor saw, for a notebook."""
    status = glance.status
    return render(
        "monitor.html.j2", title=_title(glance), live=glance.live, note=printable(status.problem), pairs=_facts(glance),
        functions=[_function(f, glance) for f in status.functions], no_functions=NO_FUNCTIONS,
        map=None if status.cache is None else cache_map.drawing(status.cache), news=_news(glance),
        dashboard=status.dashboard,
    )  # fmt: skip


def text(glance: Glance) -> str:
    """The same facts for a terminal, in fewer than 100 columns."""
    status = glance.status
    note = textwrap.wrap(printable(status.problem), WIDTH, initial_indent="  ", subsequent_indent="  ")
    lines = [_title(glance), *note, *listed(_facts(glance)), "functions"]
    for row in (_function(f, glance) for f in status.functions):
        lines.append(f"  {shorten(row['name'], 32)}  {row['state']}  {gauge(row['percent'] / 100)} {row['memory']}")
    if not status.functions:
        lines.append("  " + NO_FUNCTIONS)
    lines += ["  " + line for line in _news(glance)]
    if status.cache is not None and status.rounds:
        lines += cache_map.lines(status.cache)
    if status.dashboard:
        lines.append(f"Dask dashboard: {status.dashboard}")
    return "\n".join(lines)


def _title(glance: Glance) -> str:
    return f"FLStore, live at {glance.at}" if glance.live else f"FLStore, as it was at {glance.at}"


def _facts(glance: Glance) -> list[tuple[str, str]]:
    status = glance.status
    hits = sum(c.hits for c in status.classes)
    late = sum(c.late_hits for c in status.classes)
    misses = sum(c.misses for c in status.classes)
    objects = hits + late + misses
    requests = sum(c.requests for c in status.classes)
    recent = (
        "" if glance.recent_hit_ratio != glance.recent_hit_ratio else f"; {percent(glance.recent_hit_ratio)} lately"
    )
    others = f"{percent(late / objects)} were on their way, {percent(misses / objects)} missed" if objects else ""
    found = f"{percent(hits / objects)} of {objects:,} objects; {others}" if objects else "-"
    latest = "" if status.latest_round is None else f", latest {status.latest_round}"
    pending = f"; {size(status.pending_bytes)} not yet durable" if status.pending_bytes else ""
    return [
        ("job", f"{printable(status.job)} in {location(status.root)}, policy {printable(status.policy)}"),
        ("holds", f"{count(status.rounds, 'round')}{latest}; {count(status.clients, 'client')}{pending}"),
        (
            "requests",
            f"{requests:,} ({glance.per_s:,.0f}/s); {glance.in_flight:,} in flight, {glance.waiting:,} in line",
        ),
        ("hit ratio", found + recent),
        ("functions", f"{len(status.functions)}; {glance.lost} lost and {glance.joined} joined meanwhile"),
    ]


def _function(function: FunctionStatus, glance: Glance) -> dict[str, Any]:
    silent = function.alive and function.name in glance.silent
    return {
        "name": printable(function.name),
        "state": SILENT if silent else state(function, glance.status.closed),
        "memory": memory(function),
        "percent": round(100 * share(function), 1),
    }


def _news(glance: Glance) -> list[str]:
    return [printable(line) for line in glance.news]
