"""A trace as arrays and events: what a replay works on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flstore.engine.table import distinct
from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.policies.taxonomy import CLASS_OF
from flstore.simulator.checks import check, check_participation
from flstore.simulator.rounds import Round, check_known, constant, integers, rounds_of, sizes_of
from flstore.types import Ingested, IntArray, KeySet, Kind, PolicyClass, Requested

INGESTS = ("online", "posthoc", "timed")


@dataclass(frozen=True)
class Trace:
    """A checked trace.

    Attributes
    ----------
    rounds : dict of (int, int) to Round
        By (job, round), in order: what is ingested.
    job, round, client : ndarray of int64, shape (n,)
        One entry an access.
    starts : ndarray of int64, shape (m + 1,)
        Where each request begins among `order`.
    order : ndarray of int64, shape (n,), or None
        The rows, request by request; None when they stand so already.
    workload : ndarray of int64, shape (m,), and list of str
        Of each request, and the names.
    arrival_s : ndarray of float64, shape (m,), or None
        When each request comes.
    after : ndarray of int64, shape (m,), or None
        The newest round that exists when it comes.
    """

    rounds: dict[tuple[int, int], Round]
    job: IntArray
    round: IntArray
    client: IntArray
    starts: IntArray
    order: IntArray | None
    workload: IntArray
    names: list[str]
    arrival_s: NDArray[np.float64] | None
    after: IntArray | None = None

    @classmethod
    def of(cls, requests: pd.DataFrame, participation: pd.DataFrame | None) -> Trace:
        """Check the frames, number jobs and clients, find requests and rounds.

        Raises
        ------
        InvalidParameterError
            A column is missing or wrong, a request has two workloads, or someone is asked for who took no part.
        UnknownNameError
            No such workload.
        """
        check(requests, "requests")
        frames = [requests]
        if participation is not None:
            check(participation, "participation")
            check_participation(participation)
            frames.insert(0, participation)
        jobs, clients = _jobs(frames), _clients(frames)
        round = integers(requests, "round")
        order, starts = _grouped(requests)
        workload, names = _workloads(requests, order, starts)
        _same_in_each(jobs[-1], order, starts, "job")
        part = frames[0]
        rounds = rounds_of(part, jobs[0], integers(part, "round"), clients[0], sizes_of(part, requests))
        if participation is not None:
            check_known(requests, rounds, jobs[-1], round, clients[-1])
        first = starts[:-1] if order is None else order[starts[:-1]]
        arrival = requests["arrival_s"].to_numpy(np.float64)[first] if "arrival_s" in requests else None
        after = integers(requests, "after")[first] if "after" in requests else None
        return cls(rounds, jobs[-1], round, clients[-1], starts, order, workload, names, arrival, after)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def kinds(self) -> list[Kind]:
        """What is ingested: what somebody asks for."""
        return sorted({kind_of(self.names[w]) for w in distinct(self.workload)})

    def rows(self, number: int) -> IntArray | slice:
        """The rows of a request."""
        at = slice(int(self.starts[number]), int(self.starts[number + 1]))
        return at if self.order is None else self.order[at]

    def ingests(self, of: Round) -> Iterator[Ingested]:
        """The events by which a round comes in."""
        for kind in self.kinds:
            yield Ingested(KeySet(of.job, kind, of.round, of.clients), of.sizes)

    def request(self, number: int) -> Requested:
        """One request as an event; keys in the order of rounds, then of rows, each once."""
        workload = self.names[self.workload.item(number)]
        policy_class = CLASS_OF[workload]
        kind = Kind.METADATA if policy_class is PolicyClass.P4 else Kind.UPDATE
        if self.order is None and len(self) == len(self.client):
            clients = self.client[number : number + 1]
            job, round = self.job.item(number), self.round.item(number)
            key = KeySet(job, kind, round, clients)
            return Requested(number + 1, job, workload, policy_class, round, clients.item(), (key,))
        rows = self.rows(number)
        rounds, clients = self.round[rows], self.client[rows]
        job = int(self.job[rows][0])
        if len(clients) == 1:
            key = KeySet(job, kind, int(rounds[0]), clients)
            return Requested(number + 1, job, workload, policy_class, int(rounds[0]), int(clients[0]), (key,))
        asked = distinct(rounds)
        keys = []
        for round in asked:
            who = clients if len(asked) == 1 else clients[rounds == round]
            there = self.rounds[job, round].clients
            if len(who) == len(there) and (who == there).all():
                who = there  # one array for both: the engine then need not look up anybody
            elif len(who) > 1 and not (who[1:] > who[:-1]).all():
                who = pd.unique(who)
            keys.append(KeySet(job, kind, round, who))
        return Requested(
            number + 1, job, workload, policy_class, asked[0] if len(asked) == 1 else None, None, tuple(keys)
        )


def kind_of(workload: str) -> Kind:
    """What a workload reads."""
    return Kind.METADATA if CLASS_OF[workload] is PolicyClass.P4 else Kind.UPDATE


# --- columns --------------------------------------------------------------------------------------------------------


def _jobs(frames: list[pd.DataFrame]) -> list[IntArray]:
    if not any("job" in frame for frame in frames):
        return [constant(0, len(frame)) for frame in frames]
    return _numbered([frame.get("job", pd.Series("default", index=frame.index)) for frame in frames])


def _clients(frames: list[pd.DataFrame]) -> list[IntArray]:
    """Clients as numbers: their own when these are numbers from 0 on, else in the order of their appearance."""
    columns = [frame["client"] for frame in frames]
    if all(c.dtype.kind in "iu" and (not len(c) or c.to_numpy().min() >= 0) for c in columns):
        return [np.asarray(c.to_numpy(), dtype=np.int64) for c in columns]
    return _numbered(columns)


def _numbered(columns: list[pd.Series[Any]]) -> list[IntArray]:
    if len(columns) == 1 and isinstance(columns[0].dtype, pd.CategoricalDtype):
        return [np.asarray(columns[0].cat.codes, dtype=np.int64)]
    codes, _ = pd.factorize(pd.concat([c.astype(object) for c in columns], ignore_index=True))
    numbers: IntArray = np.asarray(codes, dtype=np.int64)
    return list(np.split(numbers, np.cumsum([len(c) for c in columns])[:-1]))


def _grouped(requests: pd.DataFrame) -> tuple[IntArray | None, IntArray]:
    """The rows request by request (None: as they stand), at the place of the first row of each; where each begins."""
    n = len(requests)
    if "request" not in requests:
        return None, np.arange(n + 1)
    column = requests["request"]
    values = column.to_numpy() if column.dtype.kind in "iu" else pd.factorize(column)[0]
    cuts = np.flatnonzero(values[1:] != values[:-1]) + 1
    firsts = values[np.concatenate([[0], cuts])] if n else values
    if len(pd.unique(firsts)) == len(firsts):
        return None, np.concatenate([[0], cuts, [n]]).astype(np.int64) if n else np.zeros(1, dtype=np.int64)
    codes = pd.factorize(column)[0]
    order = np.argsort(codes, kind="stable")
    cuts = np.flatnonzero(np.diff(codes[order])) + 1
    return order, np.concatenate([[0], cuts, [n]]).astype(np.int64)


def _workloads(requests: pd.DataFrame, order: IntArray | None, starts: IntArray) -> tuple[IntArray, list[str]]:
    count = len(starts) - 1
    if "workload" not in requests:
        return constant(0, count), ["clustering"]
    column = requests["workload"]
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, known = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, known = pd.factorize(column)
    names = [str(name) for name in known]
    for code in np.unique(codes):
        if names[code] not in CLASS_OF:
            raise UnknownNameError.of("workload", names[code], CLASS_OF)
    _same_in_each(codes, order, starts, "workload", names)
    first = starts[:-1] if order is None else order[starts[:-1]]
    return codes[first].astype(np.int64), names


def _same_in_each(
    codes: NDArray[Any], order: IntArray | None, starts: IntArray, what: str, names: list[str] | None = None
) -> None:
    """Raise when the rows of one request differ in `what`."""
    n = len(codes)
    if len(starts) == n + 1 or n < 2 or codes.strides == (0,):
        return
    values = codes if order is None else codes[order]
    differs = values[1:] != values[:-1]
    if not differs.any():
        return
    inside = np.ones(n, dtype=np.bool_)
    inside[starts[:-1]] = False
    wrong = np.flatnonzero(differs & inside[1:])
    if len(wrong):
        rows = [int(r) if order is None else int(order[r]) for r in (wrong[0], wrong[0] + 1)]
        two = sorted(names[codes[r]] if names else str(codes[r]) for r in rows)
        raise InvalidParameterError(
            f"rows of one request must share job and workload, got {what}s {two} in rows {rows}; give each its own "
            "value of 'request'"
        )
