"""Replay: a DataFrame of accesses in, hits and misses out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flstore import policies
from flstore.engine import State, step
from flstore.engine.table import distinct
from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy
from flstore.policies.taxonomy import CLASS_OF
from flstore.simulator.outcome import Outcome
from flstore.types import FunctionJoined, Ingested, IntArray, KeySet, Kind, Load, PolicyClass, Requested, Run, Source

_UNLIMITED = 2**62


def replay(
    requests: pd.DataFrame,
    policy: str | Policy,
    capacity_updates: int | None = None,
    capacity_bytes: int | None = None,
    fill: str = "write-around",
    participation: pd.DataFrame | None = None,
    ingest: Literal["online", "posthoc"] = "online",
    **params: Any,
) -> Outcome:
    """Run a request trace through a policy and the engine, without time: every load is done at once.

    Parameters
    ----------
    requests : DataFrame
        One row an access, in order: columns ``round`` and ``client``; optional ``workload`` (default
        ``"clustering"``; it chooses the class and whether updates or metadata are read), ``job``, ``request`` (rows
        with equal values form one request, at the place of the first) and ``size_bytes`` (of the object, default 1).
    policy : str or Policy
        A registered name, or an instance that has decided nothing yet.
    capacity_updates : int, optional
        Memory in updates of the mean size. With neither this nor `capacity_bytes`, memory is unlimited.
    capacity_bytes : int, optional
        Memory in bytes.
    fill : {"write-around", "write-allocate"}
        How classic policies are filled; the tailored ones decide that themselves and ignore it.
    participation : DataFrame, optional
        Who took part when: columns ``round`` and ``client``, optional ``job`` and ``size_bytes``. Default: the rows
        of `requests`.
    ingest : {"online", "posthoc"}
        ``online``: a round is ingested just before its first access (and with it the rounds before it that are never
        accessed); ``posthoc``: all rounds first, in order.
    **params
        Parameters of the policy.

    Returns
    -------
    Outcome
        Counts and the rows with what became of each.

    Raises
    ------
    InvalidParameterError
        A column is missing, a size is not positive, an access names an object outside `participation`, ...
    UnknownNameError
        No such policy or workload.

    Examples
    --------
    >>> from flstore.simulator import participation_trace, replay
    >>> trace = participation_trace(clients=250, per_round=10, rounds=20, seed=0)
    >>> outcome = replay(trace.assign(workload="clustering"), "tailored")
    >>> outcome.hits, outcome.misses
    (199, 1)
    """
    if ingest not in ("online", "posthoc"):
        raise InvalidParameterError(f"ingest must be 'online' or 'posthoc', got {ingest!r}")
    trace = _Trace.of(requests, participation)
    chosen = policies.make(policy, **_with_fill(policy, fill, params))
    capacity = _capacity(trace, capacity_updates, capacity_bytes)
    state = State(instant=True)
    step(state, chosen, FunctionJoined(0, capacity))
    function = state.functions[0]
    held_before = np.zeros(len(requests), dtype=np.bool_)
    loads = peak = 0
    for event, rows in trace.events(ingest):
        if rows is not None and len(rows) > 1:
            held_before[rows] = _held(state, trace, event, rows)
        for action in step(state, chosen, event):
            if isinstance(action, Load) and action.source is Source.STORE:
                loads += len(action.keys)
            elif isinstance(action, Run) and rows is not None and len(rows) == 1:
                held_before[rows] = action.counts.hits == 1
        peak = max(peak, function.used_bytes)
    hits = int(held_before.sum())
    frame = requests.assign(outcome=np.where(held_before, "hit", "miss"))
    return Outcome(chosen.name, hits, 0, len(requests) - hits, frame, loads, peak)


def _with_fill(policy: str | Policy, fill: str, params: dict[str, Any]) -> dict[str, Any]:
    import inspect

    if fill not in ("write-around", "write-allocate"):
        raise InvalidParameterError(f"fill must be 'write-around' or 'write-allocate', got {fill!r}")
    if isinstance(policy, str) and "fill" in inspect.signature(policies.get(policy)).parameters:
        return {"fill": fill, **params}
    return params


def _capacity(trace: _Trace, updates: int | None, size_bytes: int | None) -> int:
    if updates is not None and size_bytes is not None:
        raise InvalidParameterError("give capacity_updates or capacity_bytes, not both")
    mean = float(trace.rounds["size_bytes"].mean()) if len(trace.rounds) else 1.0
    if updates is not None:
        if updates < 1:
            raise InvalidParameterError(f"capacity_updates must be at least 1, got {updates}")
        return round(updates * mean)
    if size_bytes is None:
        return _UNLIMITED
    largest = int(trace.rounds["size_bytes"].max()) if len(trace.rounds) else 0
    if size_bytes < largest:
        raise InvalidParameterError(f"capacity_bytes={size_bytes} is below the largest update ({largest} bytes)")
    return int(size_bytes)


def _held(state: State, trace: _Trace, event: Ingested | Requested, rows: IntArray) -> NDArray[np.bool_]:
    """Which of the accesses in `rows` are held now; the state before the event decides for all of them alike."""
    held = np.zeros(len(rows), dtype=np.bool_)
    assert isinstance(event, Requested)
    kind = event.keys[0].kind
    for round in np.unique(trace.round[rows]).tolist():
        mine = trace.round[rows] == round
        table = state.table((event.job, kind, round))
        if table is not None:
            at = table.rows(trace.client[rows[mine]])
            held[mine] = (at >= 0) & (table.function[at] >= 0)
    return held


@dataclass(frozen=True)
class _Trace:
    """A checked trace: integer columns, one array a column."""

    job: IntArray
    round: IntArray
    client: IntArray
    workload: NDArray[np.object_]
    request: IntArray
    rounds: pd.DataFrame  # what is ingested: job, round, client, size_bytes
    kinds: frozenset[Kind]

    @classmethod
    def of(cls, requests: pd.DataFrame, participation: pd.DataFrame | None) -> _Trace:
        rows = _checked(requests, "requests")
        part = (
            rows
            if participation is None
            else _with_sizes(_checked(participation, "participation"), participation, rows)
        )
        jobs = pd.Index(pd.unique(pd.concat([part["job"], rows["job"]])))
        clients = pd.Index(pd.unique(pd.concat([part["client"], rows["client"]])))
        unknown = sorted(set(map(str, rows["workload"].unique())) - set(CLASS_OF))
        if unknown:
            from flstore.errors import UnknownNameError

            raise UnknownNameError.of("workload", unknown[0], CLASS_OF)
        taken = pd.DataFrame(
            {
                "job": jobs.get_indexer(part["job"]),
                "round": part["round"].to_numpy(np.int64),
                "client": clients.get_indexer(part["client"]),
                "size_bytes": part["size_bytes"].to_numpy(np.int64),
            }
        ).drop_duplicates(["job", "round", "client"])
        trace = cls(
            job=jobs.get_indexer(rows["job"]).astype(np.int64),
            round=rows["round"].to_numpy(np.int64),
            client=clients.get_indexer(rows["client"]).astype(np.int64),
            workload=rows["workload"].to_numpy(object),
            request=pd.factorize(rows["request"])[0].astype(np.int64),
            rounds=taken,
            kinds=frozenset(_kind(str(w)) for w in rows["workload"].unique()),
        )
        trace._check_known(rows)
        return trace

    def _check_known(self, rows: pd.DataFrame) -> None:
        asked = pd.MultiIndex.from_arrays([self.job, self.round, self.client])
        there = pd.MultiIndex.from_frame(self.rounds[["job", "round", "client"]])
        absent = np.flatnonzero(~asked.isin(there))
        if len(absent):
            row = rows.iloc[int(absent[0])]
            raise InvalidParameterError(
                f"row {int(absent[0])} asks for client {row['client']} in round {row['round']}, "
                f"who does not take part in it"
            )

    def events(self, ingest: str) -> Iterator[tuple[Ingested | Requested, IntArray | None]]:
        """Ingests and requests in order; a request comes with the rows that it is made of."""
        taken = self.rounds.sort_values(["job", "round"], kind="stable")
        columns = [taken[name].to_numpy(np.int64) for name in ("job", "round", "client", "size_bytes")]
        cuts = np.flatnonzero(np.diff(columns[0]) | np.diff(columns[1])) + 1
        parts = zip(*(np.split(column, cuts) if len(taken) else [] for column in columns), strict=True)
        pending = {(int(j[0]), int(r[0])): (clients, sizes) for j, r, clients, sizes in parts}
        order = sorted(pending)
        if ingest == "posthoc":
            for key in order:
                yield from self._ingest(key, pending)
        asked = {(j, r) for j, r in zip(self.job.tolist(), self.round.tolist(), strict=True)}
        silent = {job: [r for j, r in order if j == job and (j, r) not in asked] for job in {j for j, _ in order}}
        for number, rows in enumerate(self._requests(), start=1):
            job = int(self.job[rows[0]])
            rounds = distinct(self.round[rows])
            while silent[job] and silent[job][0] < rounds[-1]:
                yield from self._ingest((job, silent[job].pop(0)), pending)
            for round in rounds:
                yield from self._ingest((job, round), pending)
            yield self._request(number, job, rows), rows

    def _requests(self) -> list[IntArray]:
        """Row numbers of each request, in the order of their first rows."""
        order = np.argsort(self.request, kind="stable")
        cuts = np.flatnonzero(np.diff(self.request[order])) + 1
        return [np.asarray(g) for g in np.split(order, cuts)] if len(order) else []

    def _ingest(self, key: tuple[int, int], pending: dict[Any, Any]) -> Iterator[tuple[Ingested, None]]:
        if key in pending:
            clients, sizes = pending.pop(key)
            for kind in sorted(self.kinds):
                yield Ingested(KeySet(key[0], kind, key[1], clients), sizes), None

    def _request(self, number: int, job: int, rows: IntArray) -> Requested:
        names = set(self.workload[rows].tolist())
        if len(names) > 1 or len(distinct(self.job[rows])) > 1:
            raise InvalidParameterError(
                f"rows of one request must share job and workload, got workloads {sorted(names)}"
            )
        workload = str(names.pop())
        kind = _kind(workload)
        keys = []
        rounds = distinct(self.round[rows])
        for round in rounds:
            clients = self.client[rows if len(rounds) == 1 else rows[self.round[rows] == round]]
            keys.append(KeySet(job, kind, round, np.unique(clients) if len(clients) > 1 else clients))
        client = int(self.client[rows[0]]) if len(rows) == 1 else None
        round_ = int(self.round[rows[0]]) if len(keys) == 1 else None
        return Requested(number, job, workload, CLASS_OF[workload], round_, client, tuple(keys))


def _kind(workload: str) -> Kind:
    return Kind.METADATA if CLASS_OF[workload] is PolicyClass.P4 else Kind.UPDATE


def _with_sizes(part: pd.DataFrame, given: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Take sizes from the request rows where the participation says none."""
    if "size_bytes" in given:
        return part
    names = ["job", "round", "client"]
    sizes = rows.drop_duplicates(names)[[*names, "size_bytes"]]
    merged = part.drop(columns="size_bytes").merge(sizes, on=names, how="left")
    return merged.fillna({"size_bytes": rows["size_bytes"].mean() if len(rows) else 1}).astype({"size_bytes": np.int64})


def _checked(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """The columns that a trace has, with defaults filled in; errors name the column."""
    if not isinstance(frame, pd.DataFrame):
        raise InvalidParameterError(
            f"{what} must be a DataFrame with columns round and client, got {type(frame).__name__}"
        )
    for column in ("round", "client", "job", "workload", "request"):
        if column not in frame and column not in ("round", "client"):
            continue
        if column not in frame:
            raise InvalidParameterError(
                f"{what} has no column {column!r}; it has: {', '.join(map(str, frame.columns))}"
            )
        if frame[column].isna().any():
            raise InvalidParameterError(f"column {column!r} of {what} has empty values")
    if len(frame) and (not pd.api.types.is_integer_dtype(frame["round"]) or (frame["round"] < 0).any()):
        raise InvalidParameterError(f"column 'round' of {what} must hold integers from 0 on")
    full = frame.reset_index(drop=True)
    defaults: dict[str, Any] = {
        "job": "default", "workload": "clustering", "request": np.arange(len(full)), "size_bytes": 1,
    }  # fmt: skip
    full = full.assign(**{name: value for name, value in defaults.items() if name not in full})
    if not pd.api.types.is_integer_dtype(full["size_bytes"]) or (full["size_bytes"] <= 0).any():
        raise InvalidParameterError(f"column 'size_bytes' of {what} must hold positive integers")
    return full
