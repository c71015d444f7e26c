"""How much a function's process grows by what it holds: after one fill, and after many rounds in and out."""

from __future__ import annotations

import tempfile
from typing import Any

import psutil

from benchmarks import rounds
from benchmarks.rows import Row
from benchmarks.threads import Threads
from flstore import FLStore

AT_MOST = 1.1
MIB = 1 << 20


def run(quick: bool = False) -> list[Row]:
    """One function; growth is resident memory over what it was when empty and warm."""
    return _filled(quick) + _churned(quick)


def _filled(quick: bool) -> list[Row]:
    """A round of ResNet18 updates that comes as it is ingested, and one that is fetched from the persistent store."""
    name, state = rounds.model(quick)
    updates = rounds.perturbed(state)
    rows = []
    with tempfile.TemporaryDirectory() as root:
        with _open(root) as store:
            empty = _resident(store)
            store.ingest(1, {}, metadata={"c": {"x": 1}})
            store.ingest(2, {"client-0": state})
            store.request("clustering", round=2, k=1)
            store.ingest(3, updates)
            store.flush()
            rows.append(_row(f"memory {name}: ingested into it", store, empty))
        with _open(root) as store:
            empty = _resident(store)
            store.request("clustering", round=3, k=2)
            store.flush()
            rows.append(_row(f"memory {name}: fetched from the store", store, empty))
    return rows


def _churned(quick: bool) -> list[Row]:
    """Many rounds in and out; what is left at the end must not be more than is held."""
    from flstore.federated.models import build, state_arrays

    updates = rounds.perturbed(state_arrays(build("mobilenet_v3_small")))
    turns = 4 if quick else 40
    with tempfile.TemporaryDirectory() as root, _open(root) as store:
        empty = _resident(store)
        for round in range(1, turns + 1):
            store.ingest(round, updates)
            store.request("clustering", round=max(1, round - 5), k=2)  # keeps the last six
            store.flush()
        return [_row(f"memory: after {turns} rounds of MobileNetV3-Small in and out", store, empty)]


def _open(root: str) -> FLStore:
    store = FLStore.local(functions=1, root=root, job=rounds.JOB, memory="3GiB")
    store.request(Threads())  # imports what a request imports
    return store


def _resident(store: FLStore) -> int:
    (function,) = store._pool.functions.values()
    found: Any = psutil.Process(function.pid).memory_info().rss
    return int(found)


def _row(name: str, store: FLStore, empty: int) -> Row:
    (function,) = store.status().functions
    growth, cached = _resident(store) - empty, function.used_bytes
    if not cached:
        raise RuntimeError("the function holds nothing; the figure would be of something else")
    return Row(
        name, growth / MIB, "MiB", peer="bytes cached", ratio=growth / cached, goal=f"at most {AT_MOST:g} x the peer",
        met=growth <= AT_MOST * cached, note=f"{cached / MIB:.0f} MiB cached, {empty / MIB:.0f} MiB when empty",
    )  # fmt: skip
