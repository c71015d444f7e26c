"""Every system answers every workload alike, on real servers, and tells of it in the same columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.threads import Threads
from flstore import FLStore
from flstore.baselines import CacheAgg, LocalFiles, ObjStoreAgg
from flstore.system import System
from flstore.testing.services import S3Server, redis_server
from tests.servers import bucket, started
from tests.store.conftest import CLIENTS, fill
from tests.store.test_requests import REQUESTS, assert_same

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FLStore]:
    """The store whose answers are compared, with five rounds."""
    with FLStore.local(functions=2, memory="64MiB", root=str(tmp_path_factory.mktemp("ours"))) as store:
        fill(store, range(1, 6))
        store.flush()
        yield store


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    for server in started(lambda: redis_server(tmp_path_factory.mktemp("redis"))):
        yield server.url


SYSTEMS: dict[str, Callable[[Any], System]] = {
    "per-update": lambda at: ObjStoreAgg(**at.bucket()),
    "per-layer": lambda at: ObjStoreAgg(**at.bucket(), layout="per-layer"),
    "per-update, cache": lambda at: ObjStoreAgg(**at.bucket(), cache=at.folder("cache")),
    "per-layer, cache": lambda at: ObjStoreAgg(**at.bucket(), layout="per-layer", cache=at.folder("cache")),
    "last round kept": lambda at: ObjStoreAgg(**at.bucket(), keep_last_round=True),
    "Redis": lambda at: CacheAgg(at.redis),
    "Redis before S3": lambda at: CacheAgg(at.redis + "?db=1", **at.bucket()),
    "LocalFiles": lambda at: LocalFiles(at.written),
    "LocalFiles, verified": lambda at: LocalFiles(at.folder("new"), verify=True),
}


class Places:
    """Where the systems keep their data."""

    def __init__(self, folder: Path, s3: S3Server, redis: str, written: str) -> None:
        self.path, self.s3, self.redis, self.written = folder, s3, redis, written

    def bucket(self) -> dict[str, Any]:
        return bucket(self.s3)

    def folder(self, name: str) -> str:
        return str(self.path / name)


@pytest.fixture(scope="module", params=SYSTEMS)
def theirs(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    rclone: S3Server,
    redis_url: str,
    ours: FLStore,
) -> Iterator[System]:
    """A baseline with the same five rounds."""
    places = Places(tmp_path_factory.mktemp("theirs"), rclone, redis_url, ours.root)
    with SYSTEMS[request.param](places) as system:
        if system.root != ours.root:
            fill(system, range(1, 6))
        system.flush()
        yield system


@pytest.mark.parametrize(("workload", "params"), REQUESTS)
def test_the_answer_is_that_of_flstore(theirs: System, ours: FLStore, workload: str, params: dict[str, Any]) -> None:
    expected = ours.request(workload, **params)
    for _ in range(2):  # the second time what is kept on the way is used
        found = theirs.request(workload, **params)
        assert_same(found.value, expected.value)
        mine, its = found.record, expected.record
        assert mine.hits + mine.misses == its.hits + its.late_hits + its.misses
        assert min(mine.fetch_s, mine.compute_s, mine.latency_s) > 0


def test_lists_and_tensors_are_those_of_flstore(theirs: System, ours: FLStore) -> None:
    assert theirs.rounds() == ours.rounds()
    assert theirs.clients(3) == ours.clients(3)
    assert_same(dict(theirs.update(2, "c1")), dict(ours.update(2, "c1")))
    assert_same(dict(theirs.aggregate(0)), dict(ours.aggregate(0)))
    pd.testing.assert_frame_equal(theirs.metadata(), ours.metadata())


def test_the_records_of_all_systems_are_one_table(theirs: System, ours: FLStore) -> None:
    for system in (theirs, ours):
        system.request("clustering", round=2, k=2)
    mine, its = theirs.requests, ours.requests
    assert list(mine.columns) == list(its.columns)
    assert mine.dtypes.to_dict() == its.dtypes.to_dict()
    figure = pd.concat([mine, its]).groupby(["system", "workload"])[["latency_s", "fetch_s", "compute_s"]].median()
    assert (figure.loc[[(theirs.name, "clustering"), ("FLStore", "clustering")], "compute_s"] > 0).all()


def test_linear_algebra_has_as_many_threads_as_in_a_function(theirs: System, ours: FLStore) -> None:
    found = theirs.request(Threads())
    assert found.value == ours.request(Threads()).value
    assert found.record.bytes_moved == 0


def test_a_store_that_is_opened_later_knows_all(theirs: System) -> None:
    again = {
        "ObjStore-Agg": lambda: ObjStoreAgg(theirs.root, **_options(theirs)),
        "Cache-Agg": lambda: CacheAgg(theirs._url, job=theirs.job, **_behind(theirs)),  # type: ignore[attr-defined]
        "LocalFiles": lambda: LocalFiles(theirs.root),
    }[theirs.name]
    with again() as system:
        assert system.rounds() == [1, 2, 3, 4, 5]
        assert len(system.clients(3)) == CLIENTS
        expected = theirs.request("cosine_similarity", round=3)
        assert_same(system.request("cosine_similarity", round=3).value, expected.value)


def _options(system: Any) -> dict[str, Any]:
    return {"layout": system.layout, "storage_options": system._objects.spec["storage_options"]}


def _behind(system: Any) -> dict[str, Any]:
    spec = system._objects.spec
    return {"root": spec["root"], "storage_options": spec["storage_options"]}
