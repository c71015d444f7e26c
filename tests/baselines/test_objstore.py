"""The stronger forms of the object store, and what it does when others delete or the store loses an object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore.baselines import LocalFiles, ObjStoreAgg
from flstore.errors import RequestTimeoutError, StoreError, UpdateNotFoundError
from flstore.testing.services import S3Server
from tests.servers import bucket
from tests.store.conftest import CLIENTS, fill, make_round
from tests.store.odd_workloads import WaitsForFile
from tests.store.test_requests import assert_same


def hits(store: Any, **about: Any) -> tuple[int, int, bool]:
    """Hits and misses of a request about all updates of a round, and whether any byte came from the store."""
    record = store.request("clustering", k=2, **about).record
    return record.hits, record.misses, record.bytes_moved > 0


# --- a cache of files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["per-update", "per-layer"])
def test_what_was_read_once_is_read_from_this_machine(tmp_path: Path, layout: str) -> None:
    root, cache = str(tmp_path / "root"), tmp_path / "cache"
    with ObjStoreAgg(root, layout) as plain:
        fill(plain, range(1, 3))
        expected = plain.request("clustering", round=2, k=2).value
    for known in (False, True):  # opened again, the cache is still there
        with ObjStoreAgg(root, layout, cache=cache) as store:
            everything = CLIENTS + 1
            assert hits(store, round=2) == ((everything, 0, False) if known else (0, everything, True))
            assert hits(store, round=2) == (everything, 0, False)
            assert_same(store.request("clustering", round=2, k=2).value, expected)


@pytest.mark.parametrize(("layout", "name"), [("per-update", "c1.safetensors"), ("per-layer", "c1.layers/*/00000")])
def test_a_copy_that_is_damaged_is_read_anew(tmp_path: Path, layout: str, name: str) -> None:
    with ObjStoreAgg(str(tmp_path / "root"), layout, cache=tmp_path / "cache") as store:
        fill(store, range(1, 3))
        expected = store.request("clustering", round=2, k=2).value
        (copy,) = (tmp_path / "cache").rglob(f"round=00000002/update/client={name}")
        size = copy.stat().st_size
        for damaged in (b"not what was written", bytes(size)):
            copy.unlink()
            copy.write_bytes(damaged)
            assert_same(store.request("clustering", round=2, k=2).value, expected)
            assert copy.stat().st_size == size


def test_two_roots_may_share_a_cache(tmp_path: Path) -> None:
    for name, factor in (("one", 1), ("two", 2)):
        with ObjStoreAgg(str(tmp_path / name), cache=tmp_path / "cache") as store:
            store.ingest(1, {c: {"w": factor * t["w"]} for c, t in make_round(1).items()})
            norms = store.request("cosine_similarity", round=1, of="model").value.norms
            assert norms[0] == pytest.approx(factor * np.linalg.norm(make_round(1)["c0"]["w"].astype("f8")))


@pytest.mark.parametrize("layout", ["per-update", "per-layer"])
def test_the_copies_of_what_is_deleted_go(tmp_path: Path, layout: str) -> None:
    with ObjStoreAgg(str(tmp_path / "root"), layout, cache=tmp_path / "cache") as store:
        fill(store, range(1, 3))
        store.request("clustering", round=2, k=2)
        store.delete(client="c1", progress=False)
        assert [path for path in (tmp_path / "cache").rglob("*") if "client=c1" in path.name] == []
        assert store.request("clustering", round=2, k=2).value.clients == ["c0", "c2", "c3", "c4"]


# --- the round that was just aggregated -------------------------------------------------------------------------------


def test_the_newest_round_is_still_in_memory(tmp_path: Path) -> None:
    with ObjStoreAgg(str(tmp_path), keep_last_round=True) as store:
        fill(store, range(1, 4))
        assert hits(store, round=3) == (CLIENTS + 1, 0, False)  # with the aggregate that the round started from
        assert hits(store, round=2) == (0, CLIENTS + 1, True)  # aggregate 1 is older than what is kept
        latest = store.request("hyperparameters", round=3, last=1).record
        assert (latest.misses, latest.bytes_moved) == (0, 0)
        fill(store, range(4, 5))
        assert {key.round for key in store._kept} == {3, 4}
        store.delete(client="c1", progress=False)
        assert "c1" not in {key.client for key in store._kept}
        assert store.request("clustering", round=4, k=2).value.clients == ["c0", "c2", "c3", "c4"]
    with ObjStoreAgg(str(tmp_path), keep_last_round=True) as store:
        assert store.request("clustering", round=4, k=2).record.hits == 0


# --- others delete, and stores lose -------------------------------------------------------------------------------


def test_what_another_process_deleted_is_forgotten(tmp_path: Path) -> None:
    root, cache = str(tmp_path / "root"), tmp_path / "cache"
    with ObjStoreAgg(root, cache=cache) as store, ObjStoreAgg(root) as other:
        fill(store, range(1, 4))
        store.flush()
        store.request("clustering", round=2, k=2)
        other.refresh()
        other.delete(client="c1", progress=False)
        other.delete(rounds=[3], progress=False)
        store.refresh()
        assert store.rounds() == [1, 2]
        assert store.clients() == ["c0", "c2", "c3", "c4"]
        assert store.request("clustering", round=2, k=2).value.clients == ["c0", "c2", "c3", "c4"]
        assert store.request("hyperparameters").value.frame().index.get_level_values("client").unique().size == 4
        anew = {"c1": {"w": np.ones(2000, "f4"), "seen": np.array(2)}}
        assert store.ingest(2, anew).clients == ("c1",)
        assert store.request("clustering", round=2, k=2).value.clients == ["c0", "c1", "c2", "c3", "c4"]


def test_what_is_not_stored_yet_is_not_forgotten(tmp_path: Path) -> None:
    store = ObjStoreAgg(str(tmp_path))
    try:
        (tmp_path / "job=default").write_text("a file in the way of all folders of the job")
        store.ingest(1, make_round(1))
        with pytest.raises(StoreError):
            store._writer.flush()
        (tmp_path / "job=default").unlink()
        store.refresh()
        assert len(store.clients(1)) == CLIENTS
        store.flush()
        assert store.request("clustering", round=1, k=2).value.k == 2
    finally:
        store.close()


@pytest.mark.services
def test_s3_that_loses_an_object_says_which_one(rclone: S3Server) -> None:
    place = bucket(rclone)
    with ObjStoreAgg(**place) as store:
        fill(store, range(1, 3))
        store.flush()
        store._objects._files.remove("job=default/round=00000002/update/client=c3.safetensors")
        with pytest.raises(UpdateNotFoundError, match="there is no update of client 'c3' in round 2") as lost:
            store.request("clustering", round=2, k=2)
        assert rclone.secret not in str(lost.value)
        assert store.requests.iloc[-1]["status"] == "failed"
        assert store.request("clustering", round=2, k=2).value.clients == [
            "c0",
            "c1",
            "c2",
            "c4",
        ]  # as the listing says
        store._objects._files.remove("job=default/round=00000002/metadata.parquet")
        with pytest.raises(UpdateNotFoundError, match="there is no metadata of client 'c0' in round 2"):
            store.request("hyperparameters", round=2, last=1)


# --- deadlines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [ObjStoreAgg, LocalFiles])
def test_a_deadline_is_answered_while_the_request_runs(tmp_path: Path, system: Any) -> None:
    go = tmp_path / "go"
    with system(str(tmp_path / "root")) as store:
        fill(store, range(1, 2))
        slow = WaitsForFile(path=str(go))
        try:
            with pytest.raises(RequestTimeoutError, match=r"waits-for-file was not answered within its 0\.2 seconds"):
                store.request(slow, round=1, deadline_s=0.2)
            with pytest.raises(RequestTimeoutError):  # and so is one that waits for its turn behind it
                store.request("clustering", round=1, k=2, deadline_s=0.2)
        finally:
            go.touch()
        assert store.request("clustering", round=1, k=2, deadline_s=60).value.k == 2
        assert store.requests["status"].tolist() == ["failed", "failed", "done"]


def test_as_many_requests_compute_at_a_time_as_are_told(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with ObjStoreAgg(str(tmp_path / "root"), compute_threads=2) as store:
        fill(store, range(1, 2))
        slow = store.submit(WaitsForFile(path=str(go)), round=1)
        assert store.request("clustering", round=1, k=2, deadline_s=60).value.k == 2
        assert not slow.done()
        go.touch()
        assert slow.result(timeout=60).value.clients
