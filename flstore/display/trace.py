"""How traces look: what a store was told, as its event log and as tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from flstore.display.facts import Sheet
from flstore.display.table import view
from flstore.display.words import count, printable, ranges

if TYPE_CHECKING:
    import pandas as pd

    from flstore.engine.log import EventLog
    from flstore.simulator.record import Recording


def log_html(log: EventLog) -> str:
    """An event log for a notebook: its settings, how many events of each kind it has, and what went wrong."""
    return _log(log).html()


def log_text(log: EventLog) -> str:
    """The same facts for a terminal."""
    return _log(log).text()


def recording_html(recording: Recording) -> str:
    """A recorded trace for a notebook: what it covers, and its first requests."""
    return _recording(recording).html()


def recording_text(recording: Recording) -> str:
    """The same facts for a terminal."""
    return _recording(recording).text()


def _log(log: EventLog) -> Sheet:
    kinds = Counter(log.entries.kinds())
    pairs = [(str(name), printable(str(value))) for name, value in log.header.items() if value not in ({}, None)]
    pairs += [
        ("found at first", count(len(log.initial), "key set")),
        ("events", f"{len(log):,}: " + (", ".join(f"{many:,} {name}" for name, many in kinds.items()) or "-")),
    ]
    faults = log.faults()
    note = f"{count(len(faults), 'fault')} or refused wants, the first: {faults[0][2]}" if faults else ""
    return Sheet("Event log", pairs, printable(note))


def _recording(recording: Recording) -> Sheet:
    requests, taken = recording.requests, recording.participation
    pairs = [
        ("requests", f"{_distinct(requests, 'request'):,} for {len(requests):,} objects"),
        ("workloads", _named(requests, "workload")),
        ("participation", f"{len(taken):,} objects of {count(_distinct(taken, 'client'), 'client')}"),
        ("rounds", ranges(taken["round"].tolist()) if "round" in taken else "-"),
        ("jobs", f"{_distinct(taken, 'job'):,}"),
    ]
    return Sheet("Recorded trace", pairs, value=replace(view(requests), title="Requests") if len(requests) else None)


def _distinct(table: pd.DataFrame, column: str) -> int:
    return int(table[column].nunique()) if column in table else 0


def _named(table: pd.DataFrame, column: str) -> str:
    if column not in table or table.empty:
        return "-"
    return ", ".join(f"{printable(str(name))} ({many:,})" for name, many in table[column].value_counts().items())
