"""Small updates and real stores: every store here runs real processes unless a test says otherwise."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore

CLIENTS = 5


def make_round(round: int, clients: int = CLIENTS, size: int = 2_000) -> dict[str, dict[str, np.ndarray]]:
    """Updates of one round, a pure function of their names."""
    updates = {}
    for i in range(clients):
        rng = np.random.default_rng([round, i])
        updates[f"c{i}"] = {"w": rng.normal(size=size).astype("f4"), "seen": np.array(round)}
    return updates


def make_aggregate(round: int, size: int = 2_000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([round, 10**6])
    return {"w": rng.normal(size=size).astype("f4"), "seen": np.array(round)}


def fill(store: Any, rounds: range) -> None:
    """Ingest rounds with updates, aggregates and metadata, as training would."""
    if rounds.start == 1:
        store.ingest(0, {}, aggregate=make_aggregate(0))
    for r in rounds:
        rows = {f"c{i}": {"lr": 0.1 / r, "loss": float(i) / r} for i in range(CLIENTS)}
        store.ingest(r, make_round(r), metadata=rows)
        store.ingest(r, {}, aggregate=make_aggregate(r))


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., FLStore]]:
    """Opens stores that are closed at the end of the test."""
    stores: list[FLStore] = []

    def open(**options: Any) -> FLStore:
        options = {"functions": 1, "memory": "64MiB", "root": str(tmp_path / "root"), **options}
        stores.append(FLStore.local(**options))
        return stores[-1]

    yield open
    for store in stores:
        store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FLStore]:
    """One store with five rounds for the tests that only read."""
    with FLStore.local(functions=2, memory="64MiB", root=str(tmp_path_factory.mktemp("shared"))) as store:
        fill(store, range(1, 6))
        yield store


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Dask cluster that somebody else runs, with two workers."""
    from flstore.testing.clusters import dask_cluster

    with dask_cluster(workers=["alpha", "beta"]) as cluster:
        yield cluster


@pytest.fixture
def connect(cluster: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens stores on the cluster that are closed at the end of the test."""
    stores: list[FLStore] = []

    def open(name: str = "root", functions: int = 2, **options: Any) -> FLStore:
        options = {"memory": "64MiB", "security": cluster.security, **options}
        stores.append(FLStore.connect(cluster.address, str(tmp_path / name), **options))
        stores[-1].wait_for_functions(functions)
        return stores[-1]

    yield open
    for store in stores:
        store.close()
