"""How much of each gain is the baseline's: the same requests along a ladder of systems, one change at a time.

From the way in which the authors' artifact stores updates, over better layouts and simple caches, to FLStore filled on
demand, filled by its policy, and with derived state. Measured on loopback, and modelled over named links.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from flstore.cost import price
from flstore.cost.paper import PER_LAYER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRONG, KEPT, FILES = "ObjStore-Agg", "ObjStore-Agg, last round kept", "ObjStore-Agg, file cache"
ONE_BY_ONE, CACHE, LOCAL = "ObjStore-Agg, one at a time", "Cache-Agg", "LocalFiles"
DEMAND, INGEST, OURS, DERIVED = "FLStore, lru on demand", "FLStore, lru on ingest", "FLStore", "FLStore, derived"
S3, DISKS = "s3-same-region", "paper-minio-hdd"
LADDER = {
    PER_LAYER: (PER_LAYER, DISKS),
    ONE_BY_ONE: (PER_LAYER, DISKS),  # fetches as few at a time, of larger objects
    STRONG: (STRONG, S3),
    FILES: (STRONG, S3),
    KEPT: (STRONG, S3),
    CACHE: (CACHE, "elasticache"),
    LOCAL: (LOCAL, "local-files"),
    DEMAND: (OURS, S3),
    INGEST: (OURS, S3),
    OURS: (OURS, S3),
    DERIVED: (OURS, S3),
}
"""Systems from the slowest to the fastest, each with how it is billed and the link that its data crosses."""
BUCKET = "flstore"


def measure(
    model: str, workloads: list[str], rounds: int, per_round: int, functions: int, recordings: str
) -> pd.DataFrame:
    """Give recorded rounds to all systems and ask each for the same, in turns.

    Returns
    -------
    DataFrame
        One row a request and system: system, round, workload, first (of its round: what others have fetched before is
        not there yet), latency_s, the fields of its record, answers_equal, link, modelled_latency_s,
        modelled_cost_usd.
    """
    from recordings import rounds_of

    from flstore.testing.comparing import compared
    from flstore.testing.services import rclone_s3, redis_server

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        redis = stack.enter_context(redis_server(folder))
        s3 = stack.enter_context(rclone_s3(folder))
        s3.create_bucket(BUCKET)
        systems = _opened(stack, Path(folder), redis.url, s3.storage_options, model, functions)
        read = rounds_of(recordings, model, rounds, per_round)
        data = pd.DataFrame(list(compared(systems, read, workloads, 1, readers=(ONE_BY_ONE, STRONG, FILES))))
    data["first"] = data["workload"] == workloads[0]
    priced = [price(part, system=LADDER[str(n)][0], link=LADDER[str(n)][1]) for n, part in data.groupby("system")]
    return data.join(pd.concat(priced)[["link", "modelled_latency_s", "modelled_cost_usd"]])


def _opened(
    stack: ExitStack, folder: Path, redis: str, storage: dict[str, Any], model: str, functions: int
) -> dict[str, Any]:
    """All systems by name; those that only read stand behind FLStore, whose objects they read."""
    from flstore import FLStore
    from flstore.baselines import CacheAgg, LocalFiles, ObjStoreAgg

    options: dict[str, Any] = {"storage_options": storage}
    ours = {"functions": functions, "model": model, **options}

    def root(name: str) -> str:
        return f"s3://{BUCKET}/{name}"

    lru: dict[str, Any] = {"policy": "lru", "derive": False, **ours}
    made: dict[str, Callable[[], Any]] = {
        OURS: partial(FLStore.local, root=root("ours"), derive=False, **ours),
        DERIVED: partial(FLStore.local, root=root("derived"), **ours),
        DEMAND: partial(FLStore.local, root=root("demand"), **lru),
        INGEST: partial(FLStore.local, root=root("ingest"), policy_options={"fill": "write-allocate"}, **lru),
        PER_LAYER: partial(ObjStoreAgg, root("layers"), layout="per-layer", **options),
        KEPT: partial(ObjStoreAgg, root("kept"), keep_last_round=True, **options),
        CACHE: partial(CacheAgg, redis),
        LOCAL: partial(LocalFiles, folder / "files"),
        ONE_BY_ONE: partial(ObjStoreAgg, root("ours"), concurrency=1, **options),
        STRONG: partial(ObjStoreAgg, root("ours"), **options),
        FILES: partial(ObjStoreAgg, root("ours"), cache=folder / "cache", **options),
    }
    return {name: stack.enter_context(make()) for name, make in made.items()}


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Mean milliseconds along the ladder, how many times slower than FLStore, and the share of hits."""
    groups = data.groupby("system")
    means = 1e3 * groups[["latency_s", "modelled_latency_s"]].mean().loc[list(LADDER)]
    counts = groups[["hits", "late_hits", "misses"]].sum().loc[list(LADDER)]
    return pd.DataFrame(
        {
            "measured ms": means["latency_s"],
            "times FLStore": means["latency_s"] / means["latency_s"][OURS],
            "modelled ms": means["modelled_latency_s"],
            "times FLStore, modelled": means["modelled_latency_s"] / means["modelled_latency_s"][OURS],
            "hits": counts["hits"] / counts.sum(axis=1),
        }
    )


def figure(data: pd.DataFrame) -> Figure:
    """Mean latency along the ladder, measured on loopback and modelled over named links."""
    import matplotlib.pyplot as plt
    from style import COLOURS

    found = table(data)
    colours = [COLOURS[name.split(",")[0].removesuffix(" per-layer")] for name in found.index]
    drawn, panels = plt.subplots(1, 2, figsize=(13, 5), sharey=True, layout="constrained")
    for axes, column, times, title in (
        (panels[0], "measured ms", "times FLStore", "measured (loopback S3 and Redis)"),
        (panels[1], "modelled ms", "times FLStore, modelled", "modelled (links by name, measured computing)"),
    ):
        axes.barh(found.index, found[column], color=colours)
        for place, (length, factor) in enumerate(zip(found[column], found[times], strict=True)):
            axes.annotate(f" {factor:.3g} x", (length, place), va="center", fontsize=10)
        axes.set(title=title, xlabel="mean latency of a request, ms", xscale="log")
        axes.margins(x=0.15)
    panels[0].invert_yaxis()
    drawn.suptitle("How much of the gain is the baseline's: times FLStore (the paper has no such figure)")
    return drawn
