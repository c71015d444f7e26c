"""Many replays: policies by capacities by traces, one after the other or on an executor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd

from flstore import policies as known
from flstore.display.progress import progress_bar
from flstore.errors import InvalidParameterError
from flstore.simulator.replay import FILLS, replay


def sweep(
    policies: Sequence[str],
    capacities: Sequence[int | None],
    traces: Mapping[str, pd.DataFrame],
    executor: Any = None,
    *,
    fills: Sequence[str] = ("write-around",),
    participation: Mapping[str, pd.DataFrame] | pd.DataFrame | None = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Replay every policy with every capacity and way of filling on every trace.

    Parameters
    ----------
    policies : sequence of str
        Registered names.
    capacities : sequence of int or None
        In updates; None for unlimited memory.
    traces : mapping of str to DataFrame
        Request traces by name.
    executor : optional
        Anything with ``submit(function, *arguments)``: an executor of ``concurrent.futures``, or a Dask ``Client``. A
        Dask client gets each trace once (``scatter``). Default: one replay after the other, here.
    fills : sequence of str
        Ways of filling; policies without the parameter ``fill`` are replayed once.
    participation : DataFrame or mapping of str to DataFrame, optional
        Of all traces, or of each.
    progress : bool
        Show a progress bar in a terminal or notebook.
    **options
        Of :func:`flstore.simulator.replay`.

    Returns
    -------
    DataFrame
        One row a replay, in the order of the parameters: trace, policy, fill (empty where it has none),
        capacity_updates, hits, late_hits, misses, total, hit_ratio, loads, bytes_from_store, resident_peak_bytes, and
        with a link the mean and the 99th percentile of latency_s and the mean cost_usd, all three modelled.

    Raises
    ------
    UnknownNameError
        No such policy; nothing was replayed.
    InvalidParameterError
        There is nothing to replay, or a replay was given something wrong.

    Examples
    --------
    >>> from flstore.simulator import participation_trace
    >>> trace = participation_trace(clients=50, per_round=5, rounds=20, seed=0)
    >>> sweep(["p2", "lru"], [10, None], {"uniform": trace}, progress=False)["hit_ratio"].tolist()
    [0.99, 0.99, 0.0, 0.0]
    """
    runs = list(_runs(policies, capacities, traces, fills))
    if not runs:
        raise InvalidParameterError("sweep needs at least one policy, one capacity and one trace")
    inputs = {name: (trace, _of(participation, name)) for name, trace in traces.items()}
    if executor is None:
        rows: Iterable[dict[str, Any]] = (_one(*inputs[run[0]], run, options) for run in runs)
    else:
        scatter = getattr(executor, "scatter", None)
        sent = {name: (scatter(list(pair), hash=False) if scatter else list(pair)) for name, pair in inputs.items()}
        extra = {"pure": False} if scatter else {}
        futures = [executor.submit(_one, *sent[run[0]], run, options, **extra) for run in runs]
        rows = (future.result() for future in futures)
    found = list(progress_bar(rows, total=len(runs), what="sweep", unit="replay", show=progress))
    return pd.DataFrame(found).astype({"capacity_updates": "Int64"})


def has_fill(policy: str) -> bool:
    """Whether a policy can be filled in more than one way."""
    import inspect

    return "fill" in inspect.signature(known.get(policy)).parameters


def _runs(
    policies: Sequence[str], capacities: Sequence[int | None], traces: Iterable[str], fills: Sequence[str]
) -> Iterator[tuple[str, str, str, int | None]]:
    wrong = [fill for fill in fills if fill not in FILLS]
    if wrong:
        raise InvalidParameterError(f"fills must be of {', '.join(FILLS)}, got {wrong[0]!r}")
    ways = {policy: list(fills) if has_fill(policy) else [""] for policy in policies}
    for trace, policy in product(traces, policies):
        for fill, capacity in product(ways[policy], capacities):
            yield trace, policy, fill, capacity


def _of(participation: Mapping[str, pd.DataFrame] | pd.DataFrame | None, name: str) -> pd.DataFrame | None:
    if isinstance(participation, Mapping):
        if name not in participation:
            raise InvalidParameterError(f"participation has no trace {name!r}; it has: {', '.join(participation)}")
        return participation[name]
    return participation


def _one(
    requests: pd.DataFrame, participation: pd.DataFrame | None, run: tuple[str, str, str, int | None],
    options: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    trace, policy, fill, capacity = run
    found = replay(
        requests,
        policy,
        capacity_updates=capacity,
        participation=participation,
        fill=fill or FILLS[0],
        progress=False,
        **options,
    )
    row = {
        "trace": trace, "policy": policy, "fill": fill, "capacity_updates": capacity, "hits": found.hits,
        "late_hits": found.late_hits, "misses": found.misses, "total": found.total, "hit_ratio": found.hit_ratio,
        "loads": found.loads, "bytes_from_store": found.bytes_from_store,
        "resident_peak_bytes": found.resident_peak_bytes,
    }  # fmt: skip
    if found.requests is not None:
        row["modelled_latency_mean_s"] = float(found.requests["latency_s"].mean())
        row["modelled_latency_p99_s"] = float(found.requests["latency_s"].quantile(0.99))
        row["modelled_cost_mean_usd"] = float(found.cost()["modelled_cost_usd"].mean())
    return row
