"""A Redis that holds the whole run: what it promises, and what it says when it cannot."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore.baselines import CacheAgg
from flstore.baselines.redis_store import RedisStore
from flstore.codec import encode
from flstore.errors import CapacityError, InvalidParameterError, StoreError, UpdateNotFoundError
from flstore.testing.services import RedisServer
from flstore.testing.stores import check_objects
from flstore.types import Key, Kind
from tests.store.conftest import CLIENTS, fill, make_round

pytestmark = pytest.mark.services
Start = Callable[..., RedisServer]

ROOM = 8 << 20
"""Bytes that a Redis may use; what it is just being told counts too."""
MEGABYTE = {"w": np.arange(250_000, dtype="f4")}


def big_round(clients: int, round: int = 1) -> dict[str, Any]:
    return {f"c{i}": {"w": MEGABYTE["w"] + i + round} for i in range(clients)}


@pytest.fixture
def opened(start_redis: Start) -> Iterator[Callable[..., CacheAgg]]:
    """Opens systems on Redis servers of their own; what cannot be written when they end does not matter."""
    systems: list[CacheAgg] = []

    def open(server: dict[str, Any] | None = None, **options: Any) -> CacheAgg:
        systems.append(CacheAgg(start_redis(**(server or {})).url, **options))
        return systems[-1]

    yield open
    for system in systems:
        try:
            system.close()
        except StoreError as error:
            assert "writes failed" in str(error)  # noqa: PT017 (it may also close without any)


def test_the_contract_of_a_persistent_store_holds(start_redis: Start, tmp_path: Path) -> None:
    url = start_redis().url
    emptied = RedisStore(url)

    def alone() -> str:
        emptied.client.flushdb()
        return url

    check_objects(alone, open_store=lambda root, options: RedisStore(root))

    def behind() -> str:
        emptied.client.flushdb()
        return str(tmp_path / uuid.uuid4().hex)

    check_objects(behind, open_store=lambda root, options: RedisStore(url, root=root))


def test_values_lie_under_the_names_of_files_and_one_mget_fetches_a_round(opened: Any) -> None:
    store = opened()
    fill(store, range(1, 3))
    store.flush()
    names = {name.decode() for name in store._redis.client.scan_iter()}
    assert "job=default/round=00000002/update/client=c1.safetensors" in names
    assert {"job=default/round=00000002/metadata.parquet", "job=default/round=00000000/aggregate.safetensors"} <= names
    before = store._redis.client.info("commandstats")
    record = store.request("clustering", round=2, k=2).record
    after = store._redis.client.info("commandstats")
    asked = {name for name in after if after[name]["calls"] != before.get(name, {"calls": 0})["calls"]}
    assert asked == {"cmdstat_mget", "cmdstat_info"}
    assert after["cmdstat_mget"]["calls"] == 1
    assert (record.hits, record.misses) == (CLIENTS + 1, 0)
    assert record.bytes_moved > CLIENTS * 8000


def test_what_is_deleted_is_gone(opened: Any) -> None:
    store = opened()
    fill(store, range(1, 4))
    assert store.delete(client="c1", progress=False).updates == 3
    assert store.delete(rounds=[3], progress=False).updates == CLIENTS - 1
    names = [name.decode() for name in store._redis.client.scan_iter()]
    assert [name for name in names if "client=c1" in name or "round=00000003" in name] == []
    assert store.request("clustering", round=2, k=2).value.clients == ["c0", "c2", "c3", "c4"]
    assert (store.rounds(), store.clients()) == ([1, 2], ["c0", "c2", "c3", "c4"])


# --- no room --------------------------------------------------------------------------------------------------------


def test_a_redis_that_is_full_names_the_object_and_the_way_out(opened: Any) -> None:
    store = opened({"maxmemory": ROOM})
    receipt = store.ingest(1, big_round(9))
    with pytest.raises(CapacityError, match=r"cannot write update of client 'c\d' in round 1 .*full.*root=") as full:
        receipt.wait()
    assert f"maxmemory {ROOM:,} bytes, policy noeviction" in str(full.value)
    with pytest.raises(StoreError, match="writes failed and are kept in the write buffer"):
        store.flush()
    store._redis.client.config_set("maxmemory", 64 << 20)  # as the message says
    store.flush()
    assert len(store.request("cosine_similarity", round=1, of="model").value.clients) == 9


def test_a_redis_that_evicts_is_warned_of_and_what_it_lost_is_named(opened: Any) -> None:
    with pytest.warns(RuntimeWarning, match=r"drops objects when its .*allkeys-lru.*root="):
        store = opened({"maxmemory": ROOM, "policy": "allkeys-lru"})
    for round in range(1, 7):
        store.ingest(round, big_round(2, round)).wait()
    for _ in range(2):  # it is not forgotten: an answer about the others would look like one about all
        with pytest.raises(CapacityError, match=r"no update of client 'c0' in round 1 .*has evicted \d+ values.*root="):
            store.request("cosine_similarity", round=1, of="model")
        store.refresh()
    with pytest.raises(UpdateNotFoundError, match=r"client 'c0' in round 1.*evicted"):
        store.update(1, "c0")
    store._redis.client.delete("job=default/round=00000001/metadata.parquet")  # as if it had been evicted, too
    with pytest.raises(CapacityError, match=r"no metadata of .*round 1 .*evicted"):
        store.metadata(1)
    assert len(store.request("cosine_similarity", round=6, of="model").value.clients) == 2


def test_a_store_behind_it_has_what_redis_does_not(opened: Any, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = opened({"maxmemory": ROOM}, root=str(tmp_path / "behind"))
    with pytest.warns(RuntimeWarning, match="is full .*read from the persistent store behind it"):
        store.ingest(1, big_round(9)).wait()
    record = store.request("cosine_similarity", round=1, of="model").record
    assert 0 < record.hits < 9
    assert record.hits + record.misses == 9
    store._redis.client.flushdb()
    assert store.request("cosine_similarity", round=1, of="model").record.misses == 9
    assert store.request("cosine_similarity", round=1, of="model").record.hits > 0  # what was missed was put there
    store.delete(client="c0", progress=False)
    assert not [name for name in store._redis.client.scan_iter() if b"client=c0" in name]


def test_a_value_that_redis_cannot_take_is_refused(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flstore.baselines.redis_files._VALUE_BYTES", 1 << 10)
    store, key = opened(), Key("default", Kind.UPDATE, 1, "c0")
    with pytest.raises(CapacityError, match=r"client=c0\.safetensors has .* at most 1,024"):
        store._redis.put(key, encode(key, make_round(1)["c0"]))


def test_a_redis_is_before_one_root_only(start_redis: Start, tmp_path: Path) -> None:
    url = start_redis().url
    with CacheAgg(url, root=str(tmp_path / "one")) as store:
        fill(store, range(1, 2))
    for other in (str(tmp_path / "two"), None):
        with pytest.raises(InvalidParameterError, match=r"holds job 'default' of .*/one.*another database"):
            CacheAgg(url, root=other)
    with CacheAgg(url, root=str(tmp_path / "two"), job="other") as store:
        assert store.rounds() == []
    with CacheAgg(url, root=str(tmp_path / "one")) as store:
        assert store.request("clustering", round=1, k=2).record.misses == 0


# --- no answer ------------------------------------------------------------------------------------------------------


def test_a_redis_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=rf"cannot reach Redis at unix://{tmp_path}/none.sock: ConnectionError"):
        CacheAgg(f"unix://{tmp_path}/none.sock")
    with pytest.raises(StoreError, match=r"redis://127\.0\.0\.1:1/0"):
        CacheAgg("redis://me:hidden-word@127.0.0.1:1/0")


def test_a_redis_that_goes_away_fails_the_request_and_not_the_system(start_redis: Start, tmp_path: Path) -> None:
    store = CacheAgg(start_redis().url)
    fill(store, range(1, 2))
    store.flush()
    store._redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")  # it connects again
    assert store.request("clustering", round=1, k=2).value.k == 2
    store._redis.client.shutdown(nosave=True)
    with pytest.raises(StoreError, match=r"cannot read update of client 'c0' in round 1 .* and 5 more at unix://"):
        store.request("clustering", round=1, k=2)
    store.close()


@pytest.mark.parametrize("way", ["url", "query", "options"])
def test_a_password_is_never_shown(start_redis: Start, way: str, caplog: pytest.LogCaptureFixture) -> None:
    secret = "hidden word/@:?"
    server = start_redis(password=secret)
    assert secret not in repr(server)
    plain = f"unix://{server.socket}"
    url, options = {
        "url": (server.url, {}),
        "query": (f"{plain}?password=hidden%20word%2F%40%3A%3F", {}),
        "options": (plain, {"password": secret}),
    }[way]
    with CacheAgg(url, redis_options=options) as store:
        fill(store, range(1, 2))
        assert store.request("clustering", round=1, k=2).value.k == 2
        assert store.root == plain
        said = [repr(store), repr(store._objects), repr(vars(store._redis)["_secret"]), caplog.text]
        with pytest.raises(UpdateNotFoundError) as absent:
            store._redis.get(Key("default", Kind.UPDATE, 9, "nobody"))
        said.append(str(absent.value))
    for wrong in (url.replace("hidden", "another"), f"unix://:another-word@{server.socket}"):
        wrong_options = {name: f"another {value}" for name, value in options.items()}
        with pytest.raises(StoreError, match=r"AuthenticationError|WRONGPASS|NOAUTH") as refused:
            CacheAgg(wrong, redis_options=wrong_options or None)
        said.append(str(refused.value))
    assert [text for text in said if "hidden" in text or "another" in text] == []


@pytest.mark.parametrize(
    "url", ["/tmp/redis.sock", "s3://me:hidden-word@bucket", "http://me:hidden-word@host", "redis://me:hidden-word@[x"]
)
def test_a_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(InvalidParameterError, match="redis://host:port") as refused:
        CacheAgg(url)
    assert "hidden-word" not in str(refused.value)
