"""Replay: a DataFrame of accesses in, hits and misses out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from flstore import policies
from flstore.cost import Link
from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy
from flstore.simulator.clock import Clock, link_of, service_of
from flstore.simulator.compiled import INGESTS, Trace
from flstore.simulator.outcome import HIT, LATE, MISS, OUTCOMES, Outcome
from flstore.simulator.run import Run

_UNLIMITED = 2**62
FILLS = ("write-around", "write-allocate")


def replay(
    requests: pd.DataFrame,
    policy: str | Policy,
    capacity_updates: int | None = None,
    capacity_bytes: int | None = None,
    fill: str = "write-around",
    participation: pd.DataFrame | None = None,
    ingest: Literal["online", "posthoc", "timed"] = "online",
    *,
    link: str | Link | None = None,
    interval_s: float | None = None,
    service_s: float | Mapping[str, float] = 0.0,
    connections: int = 8,
    progress: bool | None = None,
    **params: Any,
) -> Outcome:
    """Run a request trace through a policy and the engine.

    Without a `link` there is no time: every load is done at once, and nothing is late. With one, loads take as long as
    the link makes them, so that what was asked for too soon is a late hit.

    Parameters
    ----------
    requests : DataFrame
        One row an access, in order: columns ``round`` and ``client``; optional ``workload`` (default
        ``"clustering"``; it chooses the class and whether updates or metadata are read), ``job``, ``request`` (rows
        with equal values form one request, at the place of the first), ``size_bytes`` (of the object, default 1) and
        ``arrival_s`` (seconds, not descending).
    policy : str or Policy
        A registered name, or an instance that has decided nothing yet.
    capacity_updates : int, optional
        Memory in updates of the mean size. With neither this nor `capacity_bytes`, memory is unlimited.
    capacity_bytes : int, optional
        Memory in bytes.
    fill : {"write-around", "write-allocate"}
        How classic policies are filled; the tailored ones decide that themselves and ignore it.
    participation : DataFrame, optional
        Who took part when: columns ``round`` and ``client``, optional ``job``, ``size_bytes`` and ``arrival_s``; each
        client once a round, rounds ascending. Default: the rows of `requests`, in any order.
    ingest : {"online", "posthoc", "timed"}
        ``online``: a round is ingested just before its first access (and with it the rounds before it that are never
        accessed); ``posthoc``: all rounds first, in order; ``timed``: when its last row arrives, by ``arrival_s``.
    link : str or Link, optional
        A link of :func:`flstore.cost.load_links`.
    interval_s : float, optional
        Seconds from one request to the next, where the rows have no ``arrival_s``.
    service_s : float or mapping of str to float
        Seconds of computing a request, by workload.
    connections : int
        Fetches at the same time.
    progress : bool, optional
        Show a progress bar in a terminal or notebook; default for more than 100,000 requests or rounds.
    **params
        Parameters of the policy.

    Returns
    -------
    Outcome
        Counts, the rows with what became of each, and with a link the requests with what they took.

    Raises
    ------
    InvalidParameterError
        A column is missing, a size is not positive, an access names an object outside `participation`, the memory is
        smaller than one update, there is a link and no time of arrival, ...
    UnknownNameError
        No such policy, workload or link.
    PolicyError
        The policy raised, or returned an unknown action; names the event.

    Examples
    --------
    >>> from flstore.simulator import participation_trace, replay
    >>> trace = participation_trace(clients=250, per_round=10, rounds=20, seed=0)
    >>> outcome = replay(trace.assign(workload="clustering"), "tailored")
    >>> outcome.hits, outcome.misses
    (199, 1)
    >>> hurried = replay(
    ...     trace.assign(request=trace["round"]), "p2", ingest="posthoc", link="s3-same-region", interval_s=0.1
    ... )
    >>> hurried.hits, hurried.late_hits, hurried.misses
    (10, 180, 10)
    """
    if ingest not in INGESTS:
        raise InvalidParameterError(f"ingest must be 'online', 'posthoc' or 'timed', got {ingest!r}")
    trace = Trace.of(requests, participation)
    arrivals = _arrivals(trace, link, interval_s, ingest)
    clock = Clock(link_of(link), _at_least_one(connections, "connections")) if link is not None else None
    chosen = _policy(policy, fill, params, trace)
    run = Run(trace, chosen, _capacity(trace, capacity_updates, capacity_bytes), clock, arrivals)
    if clock is not None:
        run.service_s = service_of(service_s, [trace.names[w] for w in np.unique(trace.workload)])
    run.all(ingest, progress)
    count = np.bincount(run.outcome, minlength=3)
    frame = requests.assign(outcome=pd.Categorical.from_codes(run.outcome, OUTCOMES))
    return Outcome(
        chosen.name, int(count[HIT]), int(count[LATE]), int(count[MISS]), frame, run.loads, run.resident_peak_bytes,
        run.bytes_from_store, run.resident(), run.requests(), None if clock is None else clock.link,
    )  # fmt: skip


def _policy(policy: str | Policy, fill: str, params: dict[str, Any], trace: Trace) -> Policy:
    if fill not in FILLS:
        raise InvalidParameterError(f"fill must be 'write-around' or 'write-allocate', got {fill!r}")
    if isinstance(policy, Policy):
        return policies.make(policy, **params)
    cls = policies.get(policy)
    if "fill" in inspect.signature(cls).parameters:
        params = {"fill": fill, **params}
    from_future = getattr(cls, "from_future", None)
    if from_future is not None:
        chosen: Policy = from_future((trace.request(number) for number in range(len(trace))), **params)
        return chosen
    return policies.make(policy, **params)


def _capacity(trace: Trace, updates: int | None, size_bytes: int | None) -> int:
    if updates is not None and size_bytes is not None:
        raise InvalidParameterError("give capacity_updates or capacity_bytes, not both")
    if updates is not None:
        _at_least_one(updates, "capacity_updates")
        count = sum(len(r.sizes) for r in trace.rounds.values())
        return round(updates * (sum(int(r.sizes.sum()) for r in trace.rounds.values()) / count if count else 1))
    if size_bytes is None:
        return _UNLIMITED
    largest = max((int(r.sizes.max()) for r in trace.rounds.values()), default=0)
    if size_bytes < largest:
        raise InvalidParameterError(
            f"capacity_bytes={size_bytes} is below the largest update ({largest} bytes): give at least that, or the "
            "capacity in updates as capacity_updates"
        )
    return int(size_bytes)


def _at_least_one(value: int, name: str) -> int:
    if value < 1:
        raise InvalidParameterError(f"{name} must be at least 1, got {value}")
    return value


def _arrivals(trace: Trace, link: str | Link | None, interval_s: float | None, ingest: str) -> Any:
    """When each request comes, where that matters."""
    if interval_s is not None and not (np.isfinite(interval_s) and interval_s >= 0):
        raise InvalidParameterError(f"interval_s must be at least 0 seconds, got {interval_s!r}")
    if link is None and ingest != "timed":
        return None
    if trace.arrival_s is not None:
        return trace.arrival_s
    if interval_s is None:
        why = "a link takes time" if link is not None else "ingest='timed'"
        raise InvalidParameterError(
            f"{why}, and the requests do not say when they come: give them a column 'arrival_s', or interval_s="
        )
    return np.arange(len(trace)) * float(interval_s)
