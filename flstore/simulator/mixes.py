"""Who asks for what, and when: request traces made from a participation, over the paper's taxonomy.

Each function returns rows with ``round``, ``client``, ``workload``, ``request`` and ``after`` (the newest round that
exists when the request comes), for :func:`flstore.simulator.replay`; :func:`together` puts several into one trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.policies.taxonomy import CLASS_OF
from flstore.simulator.checks import check, check_participation


def online(
    participation: pd.DataFrame, workload: str = "clustering", lag: int = 0, single: bool = False
) -> pd.DataFrame:
    """A workload that runs on every round, `lag` rounds after it.

    Parameters
    ----------
    participation : DataFrame
        Who took part when.
    workload : str
        One of the taxonomy's.
    lag : int
        0 for a round that has just been ingested. The last `lag` rounds are asked for after the end.
    single : bool
        Make every access a request of its own, as the paper counts them, instead of one request a round.

    Examples
    --------
    >>> from flstore.simulator import participation_trace
    >>> rows = online(participation_trace(5, 2, 3, seed=0), lag=1)
    >>> rows["request"].nunique(), rows["after"].tolist()
    (3, [2, 2, 3, 3, 3, 3])
    """
    _check(participation, workload)
    if lag < 0:
        raise InvalidParameterError(f"lag must be at least 0 rounds, got {lag}")
    after = np.minimum(participation["round"] + lag, participation["round"].max())
    return _rows(participation, workload, after, participation["round"], single)


def posthoc(participation: pd.DataFrame, workload: str = "clustering", single: bool = False) -> pd.DataFrame:
    """A scan over all rounds, the oldest first, when training is over."""
    _check(participation, workload)
    after = np.full(len(participation), participation["round"].max() if len(participation) else 0)
    return _rows(participation, workload, pd.Series(after, index=participation.index), participation["round"], single)


def lineage(
    participation: pd.DataFrame, clients: Iterable[object], lag: int = 0, workload: str = "lineage"
) -> pd.DataFrame:
    """Follow these clients: each of their updates is asked for alone, `lag` rounds after it came."""
    mine = participation[participation["client"].isin(list(clients))]
    newest = participation["round"].max() if len(participation) else 0
    rows = online(mine, workload, lag=lag, single=True)
    return rows.assign(after=np.minimum(mine["round"].to_numpy() + lag, newest))


def several(participation: pd.DataFrame, lags: Mapping[str, int], single: bool = False) -> pd.DataFrame:
    """Several workloads on each round, each with a lag of its own.

    Examples
    --------
    >>> from flstore.simulator import participation_trace
    >>> rows = several(participation_trace(5, 2, 3, seed=0), {"clustering": 0, "hyperparameters": 1})
    >>> rows.groupby("workload", observed=True)["request"].nunique().tolist()
    [3, 3]
    """
    if not lags:
        raise InvalidParameterError("lags must name at least one workload, as in {'clustering': 0}")
    return together(*(online(participation, workload, lag, single) for workload, lag in lags.items()))


def debugging(
    participation: pd.DataFrame, bursts: int, seed: int, length: int = 10, back: int = 20, workload: str = "debugging"
) -> pd.DataFrame:
    """Somebody looks for a fault: bursts of requests about rounds near each other, again and again.

    A burst begins after a random round, up to `back` rounds behind it, and makes `length` requests for whole rounds,
    each about the same round as the one before, the round before it or the one after it.

    Parameters
    ----------
    participation : DataFrame
        Who took part when.
    bursts : int
        How many.
    seed : int
        Seed of NumPy's default generator.
    length, back : int
        Requests of a burst, and how far behind the newest round it begins at most.
    workload : str
        What is asked for.
    """
    _check(participation, workload)
    if bursts < 1 or length < 1 or back < 0 or not len(participation):
        raise InvalidParameterError(
            f"need bursts >= 1, length >= 1, back >= 0 and rows, got {bursts=}, {length=}, {back=}"
        )
    rng, rounds = np.random.default_rng(seed), np.unique(participation["round"])
    by_round = dict(list(participation.groupby("round", sort=False)))
    parts = []
    for number in range(bursts):
        newest = int(rng.integers(len(rounds)))
        at = max(0, newest - int(rng.integers(back + 1)))
        for step in range(length):
            rows = by_round[rounds[at]]
            after = pd.Series(rounds[newest], index=rows.index)
            parts.append(
                _rows(rows, workload, after, rows["round"], single=False).assign(request=number * length + step)
            )
            at = int(np.clip(at + rng.integers(-1, 2), 0, newest))
    return together(*parts)


def together(*traces: pd.DataFrame) -> pd.DataFrame:
    """One trace of several, in the order of ``after``; of requests with the same, those of the first trace first."""
    if not traces:
        raise InvalidParameterError("together() needs at least one trace")
    for number, trace in enumerate(traces):
        missing = [c for c in ("round", "client", "workload", "request", "after") if c not in trace]
        if missing:
            raise InvalidParameterError(
                f"trace {number} has no column {missing[0]!r}; make it with the functions of mixes"
            )
    workloads = pd.CategoricalDtype(list(dict.fromkeys(w for t in traces for w in t["workload"].unique())))
    rows = pd.concat([t.assign(workload=t["workload"].astype(workloads), trace=i) for i, t in enumerate(traces)])
    rows = rows.sort_values("after", kind="stable", ignore_index=True)
    numbers = rows.groupby(["trace", "request"], sort=False).ngroup()
    # Rows of one request have one `after` and stand together, unless two traces meet in it.
    return rows.assign(request=numbers).drop(columns="trace")


def jobs(traces: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Request traces, or participations, of several jobs side by side, with a column ``job``.

    Examples
    --------
    >>> from flstore.simulator import participation_trace
    >>> both = jobs({name: participation_trace(5, 2, 3, seed) for name, seed in (("a", 0), ("b", 1))})
    >>> both["job"].tolist()[:5]
    ['a', 'a', 'b', 'b', 'a']
    """
    if not traces:
        raise InvalidParameterError("jobs() needs at least one trace, as in {'a': trace}")
    parts = [frame.assign(job=name) for name, frame in traces.items()]
    rows = pd.concat(parts).sort_values("after" if "after" in parts[0] else "round", kind="stable", ignore_index=True)
    if "request" in rows:
        rows = rows.assign(request=rows.groupby(["job", "request"], sort=False).ngroup())
    if "workload" in rows:
        rows = rows.assign(workload=rows["workload"].astype("category"))
    return rows.assign(job=rows["job"].astype(pd.CategoricalDtype(list(traces))))


def _check(participation: pd.DataFrame, workload: str) -> None:
    check(participation, "participation")
    check_participation(participation)
    if workload not in CLASS_OF:
        raise UnknownNameError.of("workload", workload, CLASS_OF)


def _rows(
    participation: pd.DataFrame, workload: str, after: pd.Series, request: pd.Series, single: bool
) -> pd.DataFrame:  # fmt: skip
    numbers = np.arange(len(participation)) if single else pd.factorize(request)[0]
    kept = [c for c in ("job", "round", "client", "size_bytes") if c in participation]
    return (
        participation[kept]
        .assign(
            workload=pd.Categorical.from_codes(np.zeros(len(participation), dtype=np.int8), pd.Index([workload])),
            request=numbers,
            after=after.to_numpy(np.int64),
        )
        .reset_index(drop=True)
    )
