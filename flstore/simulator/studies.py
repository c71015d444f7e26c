"""The paper's comparisons of caching policies, and the fair ones beside them; each returns a figure and a DataFrame.

Policies are those that are registered when a function is called, so one's own takes part. All of it is replayed;
seconds and dollars are modelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flstore import policies as known
from flstore.cost._yaml import read
from flstore.cost.paper import cells
from flstore.errors import InvalidParameterError, OptionalDependencyError
from flstore.policies.taxonomy import CLASS_OF
from flstore.simulator import mixes
from flstore.simulator.replay import FILLS, replay
from flstore.simulator.sweep import has_fill, sweep
from flstore.simulator.traces import participation_trace
from flstore.types import PolicyClass

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASSIC = ("lru", "fifo", "lfu", "belady")
ABLATIONS = ("tailored", "tailored-limited", "random", "static", "lru", "fifo", "lfu")
PARTICIPATIONS = 64
"""Rows of the paper's P3 trace."""


def registered(names: Iterable[str]) -> list[str]:
    """Those of `names` that are policies now."""
    there = set(known.names())
    return [name for name in names if name in there]


def client_of(trace: pd.DataFrame, participations: int = PARTICIPATIONS) -> int:
    """The client of `trace` whose number of rounds is nearest to `participations` (the lowest id of several).

    Examples
    --------
    >>> client_of(pd.DataFrame({"round": [1, 2, 1], "client": [4, 4, 9]}), participations=1)
    9
    """
    counts = trace.groupby("client").size().sort_index()
    return int(counts.index[int((counts - participations).abs().argmin())])


def accesses(trace: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The requests of each class of Table 3, by (class, granularity).

    ``single`` makes every access a request of its own; ``round`` makes the accesses of a round one request, which is
    how a workload really asks.
    """
    one = trace[trace["client"] == client_of(trace)]
    rounds = trace["round"].to_numpy()
    return {
        ("P2", "single"): trace.assign(workload="clustering"),
        ("P2", "round"): trace.assign(workload="clustering", request=rounds),
        ("P3", "single"): one.assign(workload="lineage"),
        ("P4", "single"): trace.assign(workload="hyperparameters"),
        ("P4", "round"): trace.assign(workload="hyperparameters", request=rounds),
    }


def table3_data(
    clients: int = 250,
    per_round: int = 10,
    rounds: int = 2000,
    seeds: Sequence[int] = (1,),
    policies: Sequence[str] | None = None,
    capacity_updates: int = 20,
) -> pd.DataFrame:
    """Table 3: hits and misses of each policy on the accesses of each class; see :func:`table3`."""
    classic = registered(CLASSIC) if policies is None else list(policies)
    runs: list[tuple[str, str, int | None]] = [("tailored", "directed", None)]
    for policy in classic:
        fills = FILLS if has_fill(policy) else ("directed",)
        runs += [(policy, fill, capacity_updates) for fill in fills]
    rows = []
    for seed in seeds:
        trace = participation_trace(clients, per_round, rounds, seed)
        for (policy_class, access), requests in accesses(trace).items():
            for policy, fill, capacity in runs:
                chosen = fill if fill in FILLS else FILLS[0]
                found = replay(requests, policy, capacity_updates=capacity, fill=chosen, participation=trace)
                rows.append(
                    {
                        "policy_class": policy_class, "access": access, "policy": policy, "fill": fill,
                        "capacity_updates": capacity, "seed": seed, "hits": found.hits, "late_hits": found.late_hits,
                        "misses": found.misses, "total": found.total, "hit_ratio": found.hit_ratio,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows).astype({"capacity_updates": "Int64"})


def table3(
    clients: int = 250,
    per_round: int = 10,
    rounds: int = 2000,
    seeds: Sequence[int] = (1,),
    policies: Sequence[str] | None = None,
    capacity_updates: int = 20,
) -> tuple[Figure, pd.DataFrame]:
    """Table 3 of the paper with its rows, and the fair ones: the classic policies filled on ingest, and the optimum.

    Parameters
    ----------
    clients, per_round, rounds
        The trace of section 5.5.
    seeds : sequence of int
        One trace each.
    policies : sequence of str, optional
        To compare with; default LRU, FIFO, LFU and Belady's optimum, as far as they are registered. Those that can be
        filled in two ways are, with room for `capacity_updates` updates.
    capacity_updates : int
        Their memory; the tailored policy takes what it needs (at most two rounds).

    Returns
    -------
    Figure, DataFrame
        One row a replay: policy_class, access, policy, fill, capacity_updates, seed, hits, late_hits, misses, total,
        hit_ratio.
    """
    data = table3_data(clients, per_round, rounds, seeds, policies, capacity_updates)
    return _drawn("table3", data), data


def figure10(
    clients: int = 250,
    per_round: int = 10,
    rounds: int = 300,
    seed: int = 1,
    model: str = "resnet18",
    workloads: Sequence[str] | None = None,
    policies: Sequence[str] | None = None,
    hours: float = 50.0,
    link: str = "s3-same-region",
    capacity_updates: int | None = None,
    shared: bool = False,
) -> tuple[Figure, pd.DataFrame]:
    """Figure 10: latency and cost of a request by workload and policy, modelled.

    Each workload asks for every round as it comes (a lineage for one client's), over `hours`. Seconds of computing and
    the size of an update are those of ``flstore/cost/paper.yaml``. Everybody has the memory that the tailored policy
    needs for the same trace, unless `capacity_updates` is given; ``tailored-limited`` halves it by itself.

    Parameters
    ----------
    clients, per_round, rounds, seed
        The trace.
    model : str
        One of the four of the paper.
    workloads : sequence of str, optional
        Default those of the paper's ten that read updates: inference reads an aggregate, which no trace has.
    policies : sequence of str, optional
        Default tailored, tailored-limited, random, static, LRU, FIFO and LFU, as far as they are registered.
    hours : float
        How long the rounds take altogether.
    link : str
        Between memory and the persistent store.
    capacity_updates : int, optional
        Memory of every policy.
    shared : bool
        Let all workloads ask in one trace, where one finds what another has brought; the paper shows each alone.

    Returns
    -------
    Figure, DataFrame
        One row a workload and policy: workload, policy, requests, hit_ratio, late_ratio, modelled_latency_s and
        modelled_cost_usd (means).
    """
    numbers = cells("FLStore").query("model == @model").set_index("workload")
    if not len(numbers):
        raise InvalidParameterError(f"there is no model {model!r}; there are: {sorted(set(cells('FLStore')['model']))}")
    names = [n for n in numbers.index if n != "inference"] if workloads is None else list(workloads)
    unknown = [name for name in names if name not in numbers.index]
    if unknown:
        raise InvalidParameterError(f"there are no seconds for {unknown[0]!r}; there are: {', '.join(numbers.index)}")
    size = int(update_bytes(model))
    trace = participation_trace(clients, per_round, rounds, seed).assign(size_bytes=size)
    seconds = {name: float(s) for name, s in numbers["compute_s"].items()}
    traces = {"all": mixes.several(trace, dict.fromkeys(names, 0))} if shared else {n: _asks(trace, n) for n in names}
    rows = []
    for requests in traces.values():
        every = hours * 3600 / max(1, requests["request"].nunique())
        timed = {"link": link, "interval_s": every, "service_s": seconds, "participation": trace}
        if capacity_updates is None:
            needed = replay(requests, "tailored", participation=trace).resident_peak_bytes
            capacity = max(1, -(-needed // size))
        for policy in registered(ABLATIONS) if policies is None else policies:
            found = replay(requests, policy, capacity_updates=capacity_updates or capacity, **timed)  # type: ignore[arg-type]
            rows.append(found.cost().assign(policy=policy))
    data = pd.concat(rows, ignore_index=True)
    objects = data["hits"] + data["late_hits"] + data["misses"]
    data = data.assign(hit_ratio=data["hits"] / objects, late_ratio=data["late_hits"] / objects)
    by = data.groupby(["workload", "policy"], sort=False, observed=True)
    summary = by[["hit_ratio", "late_ratio", "modelled_latency_s", "modelled_cost_usd"]].mean()
    summary = summary.assign(requests=by.size()).reset_index()
    return _drawn("figure10", summary), summary


def capacity_curve(
    capacities: Sequence[int] = (5, 10, 15, 20, 25, 30, 40, 60, 100),
    policies: Sequence[str] | None = None,
    clients: int = 250,
    per_round: int = 10,
    rounds: int = 200,
    seed: int = 1,
    lag: int = 1,
    executor: object = None,
) -> tuple[Figure, pd.DataFrame]:
    """Hit ratio against capacity, for every policy and way of filling, on requests that come `lag` rounds late.

    Returns
    -------
    Figure, DataFrame
        What :func:`flstore.simulator.sweep` returns.
    """
    trace = participation_trace(clients, per_round, rounds, seed)
    requests = {f"one workload, {lag} rounds behind": mixes.online(trace, "clustering", lag=lag)}
    names = known.names() if policies is None else list(policies)
    data = sweep(
        names, list(capacities), requests, executor, fills=FILLS, participation=trace, progress=False
    )  # fmt: skip
    return _drawn("capacity_curve", data), data


def lead_time(
    leads: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0),
    policies: Sequence[str] | None = None,
    clients: int = 250,
    per_round: int = 10,
    rounds: int = 100,
    seed: int = 1,
    link: str = "s3-same-region",
    size_bytes: int = 44_765_128,
) -> tuple[Figure, pd.DataFrame]:
    """Late hits against the time that a prefetch has: a scan after the end of training, round by round.

    A lead of 1 is what fetching one round takes over `link`. While a round is asked for, the next is on its way, so
    with less lead than 1 everything prefetched is late, and the requests wait for what is left.

    Returns
    -------
    Figure, DataFrame
        One row a policy and lead: policy, lead, interval_s, hit_ratio, late_ratio, miss_ratio, modelled_wait_s (mean).
    """
    from flstore.simulator.clock import Clock, link_of

    if any(not lead > 0 for lead in leads):
        raise InvalidParameterError(f"leads must be positive, got {list(leads)}")
    trace = participation_trace(clients, per_round, rounds, seed).assign(size_bytes=size_bytes)
    requests = mixes.posthoc(trace)
    round_s = Clock(link_of(link), 8).takes_s(per_round, per_round * size_bytes)
    rows = []
    for policy in ["tailored", *registered(["lru"])] if policies is None else policies:
        for lead in leads:
            found = replay(
                requests, policy, 4 * per_round, participation=trace, ingest="posthoc", link=link,
                interval_s=lead * round_s,
            )  # fmt: skip
            assert found.requests is not None
            rows.append(
                {
                    "policy": policy, "lead": lead, "interval_s": lead * round_s, "hit_ratio": found.hit_ratio,
                    "late_ratio": found.late_hits / found.total, "miss_ratio": found.misses / found.total,
                    "modelled_wait_s": float(found.requests["wait_s"].mean()),
                }
            )  # fmt: skip
    data = pd.DataFrame(rows)
    return _drawn("lead_time", data), data


def update_bytes(model: str) -> float:
    """Bytes of an update of one of the paper's models, by ``flstore/cost/paper.yaml``."""
    content, _ = read(None, "paper")
    found: float = content["models"][model]["update_bytes"]
    return found


def _asks(trace: pd.DataFrame, workload: str) -> pd.DataFrame:
    if CLASS_OF[workload] is PolicyClass.P3:
        return mixes.lineage(trace, [client_of(trace)], workload=workload)
    if CLASS_OF[workload] is PolicyClass.P1:  # one object a request
        return mixes.online(trace.groupby("round", sort=False).head(1), workload)
    return mixes.online(trace, workload)


def _drawn(what: str, data: pd.DataFrame) -> Figure:
    try:
        from flstore.display import studies
    except ImportError as error:
        raise OptionalDependencyError.of("seaborn", "notebook", "A figure") from error
    figure: Figure = getattr(studies, what)(data.replace([np.inf, -np.inf], np.nan))
    return figure
