"""Cost against latency of every system and policy on one trace: which of them nothing else beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flstore import policies as known
from flstore.cost import GIB, Scale, idle, price
from flstore.cost._yaml import read
from flstore.cost.capacity import stored_bytes
from flstore.cost.paper import cells
from flstore.policies.taxonomy import CLASS_OF
from flstore.simulator import mixes
from flstore.simulator.replay import FILLS, replay
from flstore.simulator.studies import client_of
from flstore.simulator.sweep import has_fill
from flstore.simulator.traces import participation_trace
from flstore.types import PolicyClass

BASELINES: tuple[tuple[str, str], ...] = (
    ("ObjStore-Agg", "s3-same-region"),
    ("ObjStore-Agg per-layer", "paper-minio-hdd"),
    ("Cache-Agg", "elasticache"),
)
REQUESTS_PER_HOUR = 60
"""As in the paper: 3000 requests in 50 hours."""
CLAIRVOYANT = ("belady",)
"""They decide by requests that are still to come: a bound, not a choice."""
WORTH = 0.01
"""A share by which a point has to be lower in one for another to be dominated; less is the noise of a model."""


def frontier(
    clients: int = 250,
    per_round: int = 10,
    rounds: int = 100,
    seed: int = 1,
    model: str = "resnet18",
    policies: Sequence[str] | None = None,
    rounds_of_memory: Sequence[float] = (1, 2, 3),
    link: str = "s3-same-region",
) -> pd.DataFrame:
    """The paper's workloads on each round, as it comes, and one client's lineage, under every policy and system.

    All workloads are asked in one trace, so what one of them brought serves the next. Policies run on FLStore with
    memory for `rounds_of_memory` rounds of updates, classic ones filled on demand and on ingest. The baselines fetch
    all that they read. What is billed between requests (functions kept alive, a cluster that holds the paper's whole
    run, the stored objects) is shared among the requests, which come :data:`REQUESTS_PER_HOUR` an hour.

    Returns
    -------
    DataFrame
        One row a system, policy, fill and memory: system, policy, fill, memory_rounds, functions, hit_ratio,
        modelled_latency_s, modelled_request_usd, modelled_between_usd (shares), modelled_total_usd, on_frontier and
        basis. See :func:`on_frontier`.
    """
    content, _ = read(None, "paper")
    size, setting = content["models"][model], content["setting"]
    trace = participation_trace(clients, per_round, rounds, seed).assign(size_bytes=size["update_bytes"])
    asked, service = _asked(trace, model)
    whole = stored_bytes(setting["clients_per_round"], setting["rounds"], size["update_bytes"])
    memory_bytes = size["function_memory_gib"] * GIB
    room = memory_bytes * (1 - setting["function_scratch_share"])
    chosen = known.names() if policies is None else policies
    ways = [(policy, fill) for policy in chosen for fill in (FILLS if has_fill(policy) else ("",))]
    rows = []
    for (policy, fill), held in product(ways, rounds_of_memory):
        updates = max(1, round(held * per_round))
        needed = math.ceil(updates * size["update_bytes"] / room)
        scale = Scale(functions=needed, function_memory_bytes=memory_bytes, stored_bytes=whole)
        found = replay(
            asked, policy, updates, fill=fill or FILLS[0], participation=trace, link=link,
            interval_s=3600 / REQUESTS_PER_HOUR, service_s=service,
        )  # fmt: skip
        what = {"policy": policy, "fill": fill, "memory_rounds": held, "hit_ratio": found.hit_ratio}
        rows.append(what | _point("FLStore", found.cost(scale=scale), scale))
    for system, way in BASELINES:
        fetched, scale = _fetched(asked, service), Scale(stored_bytes=whole)
        objects = fetched["operations"] * (size["tensors"] if system.endswith("per-layer") else 1)
        priced = price(fetched.assign(operations=objects), system=system, link=way, scale=scale)
        rows.append({"policy": "", "fill": "", "hit_ratio": 0.0} | _point(system, priced, scale))
    data = pd.DataFrame(rows).assign(on_frontier=on_frontier)
    first = ["system", "policy", "fill", "memory_rounds"]
    return data[[*first, *(c for c in data if c not in first)]]


def _asked(trace: pd.DataFrame, model: str) -> tuple[pd.DataFrame, dict[str, float]]:
    """The requests, and the seconds of computing one of each workload; none were measured for lineage."""
    seconds = cells("FLStore").query("model == @model").set_index("workload")["compute_s"]
    names = [str(name) for name in seconds.index if CLASS_OF[str(name)] is PolicyClass.P2]
    rounds = mixes.several(trace, dict.fromkeys(names, 0))
    asked = mixes.together(rounds, mixes.lineage(trace, [client_of(trace)]))
    return asked, {**{name: float(seconds[name]) for name in names}, "lineage": 0.0}


def _fetched(asked: pd.DataFrame, service: dict[str, float]) -> pd.DataFrame:
    """What each request reads, as a record of a system that holds nothing."""
    by = asked.groupby("request", sort=False)
    return pd.DataFrame(
        {
            "operations": by.size(),
            "bytes_moved": by["size_bytes"].sum(),
            "compute_s": by["workload"].first().astype(str).map(service),
        }
    )


def _point(system: str, priced: pd.DataFrame, scale: Scale) -> dict[str, object]:
    hours = len(priced) / REQUESTS_PER_HOUR
    between = float(idle(system, hours=hours, scale=scale)["modelled_usd"].sum()) / len(priced)
    request = float(priced["modelled_cost_usd"].mean())
    return {
        "system": system, "functions": scale.functions if system == "FLStore" else 0,
        "modelled_latency_s": float(priced["modelled_latency_s"].mean()), "modelled_request_usd": request,
        "modelled_between_usd": between, "modelled_total_usd": request + between, "basis": "modelled",
    }  # fmt: skip


def on_frontier(rows: pd.DataFrame) -> pd.Series[bool]:
    """Which rows no other row, the clairvoyant apart, beats: is no slower and no dearer, and by 1 % less of one.

    Examples
    --------
    >>> rows = pd.DataFrame({"policy": ["a", "b", "c"], "modelled_latency_s": [1.0, 2.0, 2.0]})
    >>> on_frontier(rows.assign(modelled_total_usd=[3.0, 1.0, 1.5])).tolist()
    [True, True, False]
    """
    points = rows[["modelled_latency_s", "modelled_total_usd"]].to_numpy()
    possible = points[~rows["policy"].isin(CLAIRVOYANT)]

    def beaten(point: NDArray[np.float64]) -> bool:
        return bool(((possible <= point).all(axis=1) & (possible <= (1 - WORTH) * point).any(axis=1)).any())

    return pd.Series([not beaten(point) for point in points], index=rows.index)
