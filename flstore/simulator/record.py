"""Traces of what really happened: from the event log of a live store, and from request logs in files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from flstore import policies
from flstore.engine import EventLog, State, settle
from flstore.engine.table import NOWHERE
from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.policies.base import Policy
from flstore.policies.taxonomy import CLASS_OF
from flstore.simulator.checks import check, check_participation
from flstore.simulator.outcome import LATE, MISS, OUTCOMES, Outcome
from flstore.types import FunctionJoined, Ingested, KeySet, Kind, Load, Requested, Source

if TYPE_CHECKING:
    from collections.abc import Iterable


class Recording(NamedTuple):
    """What a store was told, as traces: ``replay(*recording, ingest="timed")`` is ``recording.replay(policy)``.

    Attributes
    ----------
    requests : DataFrame
        One row an object that was asked for: ``job``, ``round``, ``client``, ``workload``, ``request``, ``arrival_s``.
    participation : DataFrame
        One row an object that came in: ``job``, ``round``, ``client``, ``size_bytes``, ``arrival_s``.
    """

    requests: pd.DataFrame
    participation: pd.DataFrame

    def replay(self, policy: str | Policy, **options: Any) -> Outcome:
        """:func:`flstore.simulator.replay` of this recording, in the order in which things happened."""
        from flstore.simulator.replay import replay

        return replay(self.requests, policy, participation=self.participation, ingest="timed", **options)

    def __repr__(self) -> str:
        from flstore.display.trace import recording_text

        return recording_text(self)

    def _repr_html_(self) -> str:
        from flstore.display.trace import recording_html

        return recording_html(self)


def record(source: Any) -> Recording:
    """The requests and the participation of a live store, from its event log.

    The log has an order and no clock: ``arrival_s`` is the number of the event. Aggregates are left out, as every trace
    of the simulator does; :func:`replay_log` keeps them. Clients are numbers, as in the log.

    Parameters
    ----------
    source : FLStore, EventLog or path
        A store, its ``log``, or the file that ``log.save(path)`` wrote.

    Raises
    ------
    InvalidParameterError
        It is none of these.
    """
    log = _log(source)
    taken: list[pd.DataFrame] = []
    asked: list[pd.DataFrame] = []
    events = [*log.initial, *(entry.event for entry in log.decisions())]
    for at, event in enumerate(events):
        if isinstance(event, Ingested) and event.keys.kind is not Kind.AGGREGATE:
            rows = _frame(event.keys)
            taken.append(rows.assign(size_bytes=event.sizes, arrival_s=float(at), kind=int(event.keys.kind)))
        elif isinstance(event, Requested) and event.workload in CLASS_OF:
            parts = [_frame(keys) for keys in event.keys if keys.kind is not Kind.AGGREGATE]
            if parts:
                rows = pd.concat(parts, ignore_index=True)
                asked.append(rows.assign(workload=event.workload, request=event.request, arrival_s=float(at)))
    names = ["job", "round", "client"]
    participation = pd.concat(taken) if taken else pd.DataFrame(columns=[*names, "size_bytes", "arrival_s", "kind"])
    # Metadata of an update is another object of the same name; the trace's kind follows from the workload.
    first = participation.sort_values(["job", "round", "kind"], kind="stable").drop_duplicates(names)
    first = first.assign(arrival_s=first.groupby(["job", "round"])["arrival_s"].transform("min"))
    requests = pd.concat(asked) if asked else pd.DataFrame(columns=[*names, "workload", "request", "arrival_s"])
    return Recording(
        requests.reset_index(drop=True), first.drop(columns="kind").sort_values("arrival_s", ignore_index=True)
    )


def replay_log(source: Any, policy: str | Policy, capacity_bytes: int | None = None, **params: Any) -> Outcome:
    """What another policy would have made of everything that a live store was told: all kinds of objects, its
    functions.

    Parameters
    ----------
    source : FLStore, EventLog or path
        As of :func:`record`.
    policy : str or Policy
        A registered name, or a fresh instance.
    capacity_bytes : int, optional
        Memory of each function; default as it was.
    **params
        Parameters of the policy.

    Returns
    -------
    Outcome
        ``frame`` has one row an object that was asked for: job, kind, round, client, workload, request, outcome. Loads
        are done at once, as without a link.
    """
    log = _log(source)
    events = [entry.event for entry in log.decisions()]
    chosen = policies.make(policy, **params) if isinstance(policy, Policy) else _by_name(policy, events, params)
    state = log.start(instant=True)
    rows: list[pd.DataFrame] = []
    counts = np.zeros(3, dtype=np.int64)
    loads = loaded_bytes = peak = 0
    for event in events:
        if isinstance(event, FunctionJoined) and capacity_bytes is not None:
            event = FunctionJoined(event.function, capacity_bytes, event.incarnation, event.holds)
        if isinstance(event, Requested):
            frame = pd.concat([_outcome(state, keys) for keys in event.keys], ignore_index=True)
            rows.append(frame.assign(workload=event.workload, request=event.request))
            counts += np.bincount(frame["outcome"], minlength=3)
        for action in settle(state, chosen, event)[0]:
            if isinstance(action, Load) and action.source is Source.STORE:
                loads += len(action.keys)
                loaded_bytes += action.size_bytes
        peak = max(peak, sum(f.used_bytes for f in state.functions.values()))
    frame = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame({"outcome": np.empty(0, dtype=np.int8)})
    frame = frame.assign(outcome=pd.Categorical.from_codes(frame["outcome"].to_numpy(np.int8), OUTCOMES))
    hits, late, misses = counts.tolist()
    return Outcome(chosen.name, hits, late, misses, frame, loads, peak, loaded_bytes)


def read_requests(
    source: str | Path | pd.DataFrame, participation: pd.DataFrame, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """A request log with times of arrival as a trace.

    Parameters
    ----------
    source : path or DataFrame
        A CSV or Parquet file (by its ending), or such a table: one row a request, with ``arrival_s`` (seconds) or
        ``time`` (time-stamps), ``round`` and optional ``client`` (empty or missing: everybody of the round),
        ``workload`` and ``job``.
    participation : DataFrame
        Who took part when: what a request without a client asks for.
    columns : mapping of str to str, optional
        Names in the file, by the names above: ``{"time": "received_at"}``.

    Returns
    -------
    DataFrame
        One row an access, by time: ``round``, ``client``, ``request``, ``arrival_s`` from the first request on, and
        ``workload`` and ``job`` where the log has them.

    Raises
    ------
    InvalidParameterError
        The file cannot be read, lacks a column, has a time that is none, or asks for a round that does not exist.
    UnknownNameError
        An unknown workload.
    """
    check(participation, "participation")
    check_participation(participation)
    log = _read(source).rename(columns={theirs: ours for ours, theirs in (columns or {}).items()})
    for column in ("round",):
        if column not in log:
            raise InvalidParameterError(
                f"the request log has no column {column!r}; it has: {', '.join(map(str, log.columns))}. Say how it is "
                f"called there: columns={{{column!r}: ...}}"
            )
    for name in log["workload"].unique() if "workload" in log else ():
        if name not in CLASS_OF:
            raise UnknownNameError.of("workload", str(name), CLASS_OF)
    log = log.assign(arrival_s=_seconds(log)).sort_values("arrival_s", kind="stable", ignore_index=True)
    log = log.assign(request=np.arange(len(log)))
    kept = [c for c in ("round", "client", "job", "workload", "request", "arrival_s") if c in log]
    whole = log["client"].isna() if "client" in log else pd.Series(True, index=log.index)
    keys = [c for c in ("job", "round") if c in log and c in participation]
    everybody = log.loc[whole, [c for c in kept if c != "client"]]
    expanded = everybody.merge(participation[[*keys, "client"]], on=keys, how="left")
    if expanded["client"].isna().any():
        row = expanded[expanded["client"].isna()].iloc[0]
        raise InvalidParameterError(
            f"the request at {row['arrival_s']} s asks for round {int(row['round'])}, in which nobody takes "
            "part; leave it out, or give a participation that has the round"
        )
    rows = pd.concat([expanded, log.loc[~whole, kept]]) if (~whole).any() else expanded
    rows = rows.sort_values("request", kind="stable", ignore_index=True)
    return rows.astype({"client": participation["client"].dtype, "round": np.int64})


def _read(source: str | Path | pd.DataFrame) -> pd.DataFrame:
    if isinstance(source, pd.DataFrame):
        return source
    ending = Path(source).suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise InvalidParameterError(f"{source} must end in .csv or .parquet, or be a DataFrame")
    try:
        return pd.read_csv(source) if ending == ".csv" else pd.read_parquet(source)
    except (OSError, ValueError) as error:
        raise InvalidParameterError(f"{source} cannot be read as a request log: {error}") from error


def _seconds(log: pd.DataFrame) -> pd.Series:
    if "arrival_s" in log:
        seconds = pd.to_numeric(log["arrival_s"], errors="coerce")
    elif "time" in log:
        try:
            times = pd.to_datetime(log["time"], utc=True)
        except (ValueError, TypeError) as error:
            raise InvalidParameterError(f"column 'time' of the request log holds what is no time: {error}") from error
        seconds = (times - times.min()).dt.total_seconds()
    else:
        raise InvalidParameterError(
            f"the request log has neither 'arrival_s' nor 'time'; it has: {', '.join(map(str, log.columns))}"
        )
    if seconds.isna().any():
        row = int(np.flatnonzero(seconds.isna().to_numpy())[0])
        raise InvalidParameterError(f"row {row} of the request log has no time of arrival")
    return seconds.astype(np.float64)


def _log(source: Any) -> EventLog:
    if isinstance(source, str | Path):
        return EventLog.load(source)
    log = getattr(source, "log", source)
    if not isinstance(log, EventLog):
        raise InvalidParameterError(f"need an FLStore, an EventLog or a path, got {type(source).__name__}")
    return log


def _by_name(policy: str, events: Iterable[Any], params: dict[str, Any]) -> Policy:
    from_future = getattr(policies.get(policy), "from_future", None)
    if from_future is None:
        return policies.make(policy, **params)
    chosen: Policy = from_future([e for e in events if isinstance(e, Requested)], **params)
    return chosen


def _outcome(state: State, keys: KeySet) -> pd.DataFrame:
    parts: Iterator[Any] = state.resolve(keys)
    codes = [
        np.full(len(rows), MISS, dtype=np.int8)
        if table is None
        else np.where(
            (rows >= 0) & (table.function[rows] != NOWHERE), np.where(table.any_ready(rows), 0, LATE), MISS
        ).astype(np.int8)
        for _, table, _, rows in parts
    ]
    return _frame(keys).assign(kind=int(keys.kind), outcome=np.concatenate(codes) if codes else np.empty(0, np.int8))


def _frame(keys: KeySet) -> pd.DataFrame:
    n = len(keys)
    return pd.DataFrame(
        {"job": keys.job, "round": np.broadcast_to(keys.rounds, n), "client": np.broadcast_to(keys.clients, n)}
    )
