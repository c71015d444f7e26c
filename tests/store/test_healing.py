"""Objects that rot, tear or vanish in the persistent store: mended from memory where there is a copy, else named."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.codec import encode
from flstore.errors import CorruptObjectError, FLStoreError, StoreError, UpdateNotFoundError
from flstore.functions import wire
from flstore.functions.function import send_buffer
from flstore.persistence import object_path, verify
from flstore.testing.faults import corrupt, lose, tear
from flstore.testing.faulty_fs import Fault, FaultPlan
from flstore.testing.services import S3Server
from flstore.types import Key, Kind
from tests.servers import bucket
from tests.store.conftest import CLIENTS, fill, make_aggregate, make_round

DAMAGE = [corrupt, tear, lose]
C3 = Key("default", Kind.UPDATE, 2, "c3")


@contextmanager
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def put(store: FLStore, number: int, key: Key) -> None:
    """Give a function an object of which the engine knows nothing."""
    function = store._pool.functions[number]
    data = [send_buffer(encode(key, make_round(key.round)[str(key.client)]))]
    keys = wire.pack([wire.key_values(key)])
    message = store._pool.call(number, "put", incarnation=function.incarnation, keys=keys, generation=10**6, data=data)
    assert wire.unpack(store._pool.sync(message)["failed"]) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_asked_for_is_healed_from_a_function(open_store: Any, damage: Callable[..., Any]) -> None:
    store = open_store()
    fill(store, range(1, 4))
    store.request("clustering", round=2, k=2)
    store.flush()
    aggregate = Key("default", Kind.AGGREGATE, 2)
    for key in (C3, aggregate):
        damage(store.root, key)
    with pytest.warns(RuntimeWarning, match=r"client 'c3' in round 2 .*healed from the memory of function-0"):
        np.testing.assert_array_equal(store.update(2, "c3")["w"], make_round(2)["c3"]["w"])
    with pytest.warns(RuntimeWarning, match=r"aggregate .*round 2 .*healed from the memory of function-0"):
        np.testing.assert_array_equal(store.aggregate(2)["w"], make_aggregate(2)["w"])
    assert verify(store.root, progress=False).objects == 3 * (CLIENTS + 2) + 1
    assert verify(store.root, progress=False).ok
    damage(store.root, C3)
    with no_warning():  # an object is reported once
        store.update(2, "c3")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_request_is_answered_with_a_copy_that_another_function_has(
    open_store: Any, damage: Callable[..., Any]
) -> None:
    store = open_store(functions=2, policy="lru")
    fill(store, range(1, 4))
    store.flush()
    with ObjStoreAgg(store.root) as baseline:
        expected = baseline.request("cosine_similarity", round=2).value.similarity
    damaged = [C3, Key("default", Kind.UPDATE, 2, "c1")]
    for key in damaged:
        put(store, 1, key)
        damage(store.root, key)
    with pytest.warns(RuntimeWarning, match="healed from the memory of function-1"):
        answer = store.request("cosine_similarity", round=2)
    assert answer.record.functions == ["function-0"], "or else nothing was damaged where it ran"
    np.testing.assert_array_equal(answer.value.similarity, expected)
    assert verify(store.root, progress=False).ok


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_load_is_made_with_a_copy_that_another_function_has(open_store: Any, damage: Callable[..., Any]) -> None:
    store = open_store(functions=1)
    fill(store, range(1, 4))
    store.flush()
    store.close()
    store = open_store(functions=2)
    put(store, 1, C3)
    damage(store.root, C3)
    store.submit("clustering", round=1, k=2)  # the next rounds are loaded
    with pytest.warns(RuntimeWarning, match="healed from the memory of function-1"):
        store.flush()
    assert C3 in store.inventory()["function-0"]
    with no_warning():
        assert store.request("clustering", round=2, k=2).record.hits == CLIENTS + 1
    assert verify(store.root, progress=False).ok


@pytest.mark.parametrize(("damage", "error"), [(corrupt, CorruptObjectError), (lose, UpdateNotFoundError)])
def test_what_nothing_can_heal_is_named_with_the_way_out(
    open_store: Any, damage: Callable[..., Any], error: type[FLStoreError]
) -> None:
    store = open_store(policy="lru")
    fill(store, range(1, 3))
    store.flush()
    damage(store.root, C3)
    said = r"client 'c3' in round 2.*no whole copy is in the write buffer or the memory.*ingest it again"
    for ask in (lambda: store.update(2, "c3"), lambda: store.request("cosine_similarity", round=2)):
        with pytest.raises(error, match=said) as raised:
            ask()
        assert raised.value.key == C3
    store._objects.delete([C3])  # the way out
    assert store.ingest(2, {"c3": make_round(2)["c3"]}).clients == ("c3",)
    store.flush()
    assert store.request("cosine_similarity", round=2).value.similarity.shape == (CLIENTS, CLIENTS)


def test_a_damaged_neighbour_does_not_keep_a_round_from_growing(tmp_path: Path) -> None:
    with ObjStoreAgg(str(tmp_path)) as first:
        first.ingest(1, make_round(1, clients=2))
    tear(str(tmp_path), Key("default", Kind.UPDATE, 1, "c0"), keep=0)
    with ObjStoreAgg(str(tmp_path)) as second:
        assert second.ingest(1, {"c2": make_round(1)["c2"]}).clients == ("c2",)


def test_verify_heals_from_functions_and_the_write_buffer_and_shows_it(tmp_path: Path) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    root, late = tmp_path / "root", Key("default", Kind.UPDATE, 3, "c0")
    options: dict[str, Any] = {"storage_options": plan.storage_options, "memory": "64MiB"}
    with FLStore.local(functions=1, root=plan.url(root), **options) as store:
        fill(store, range(1, 3))
        store.request("clustering", round=2, k=2)
        store.flush()
        rotten, gone = (Key("default", Kind.UPDATE, 2, c) for c in ("c1", "c2"))
        hopeless = Key("default", Kind.UPDATE, 1, "c4")
        corrupt(root, rotten)
        lose(root, gone)
        corrupt(root, hopeless)
        with plan.stage(Fault("tear", "write", match="*client=c0*")):
            store.ingest(3, make_round(3, clients=1))
            with pytest.raises(StoreError):
                store.flush()
        seen = store.verify(heal=False, progress=False)
        assert ({d.key for d in seen.damaged}, seen.healed) == ({rotten, gone, hopeless, late}, [])
        with pytest.warns(RuntimeWarning, match="healed from"):
            found = store.verify(progress=False)
        healed = {d.key: d.reason for d in found.healed}
        assert [d.key for d in found.damaged] == [hopeless]
        assert set(healed) == {rotten, gone, late}
        assert healed[gone] == "it is missing; healed from the memory of function-0"
        assert healed[late].endswith("; healed from the write buffer")
        for shown in (repr(found), found._repr_html_()):
            assert "1 damaged object, 3 healed objects, see below" in shown
            assert "healed from the memory of function-0" in shown
        assert [d.key for d in store.verify(progress=False).damaged] == [hopeless]


def test_an_empty_store_is_verified(open_store: Any) -> None:
    found = open_store().verify()
    assert (found.objects, found.ok, found.healed) == (0, True, [])


def test_a_copy_is_used_even_when_it_cannot_be_stored(tmp_path: Path) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    options: dict[str, Any] = {"storage_options": plan.storage_options, "memory": "64MiB"}
    with FLStore.local(functions=1, root=plan.url(tmp_path / "root"), **options) as store:
        fill(store, range(1, 3))
        store.request("clustering", round=2, k=2)
        store.flush()
        corrupt(tmp_path / "root", C3)
        with (
            plan.stage(Fault("fail", "write")),
            pytest.warns(RuntimeWarning, match=r"read from the memory of function-0, but not stored: .*'fail' strikes"),
        ):
            np.testing.assert_array_equal(store.update(2, "c3")["w"], make_round(2)["c3"]["w"])


def test_a_transfer_that_was_torn_is_made_again(tmp_path: Path) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    options: dict[str, Any] = {"storage_options": plan.storage_options, "memory": "64MiB", "policy": "lru"}
    with FLStore.local(functions=1, root=plan.url(tmp_path / "root"), **options) as store:
        fill(store, range(1, 3))
        store.flush()
        with no_warning():
            for ask in (lambda: store.request("clustering", round=2, k=2), lambda: store.update(2, "c3")):
                with plan.stage(Fault("tear", "read", times=1, match="*client=c3*")):
                    ask()
        assert [s.kind for s in plan.strikes()] == ["tear", "tear"]


def test_metadata_that_is_damaged_is_answered_from_memory(open_store: Any, tmp_path: Path) -> None:
    store = open_store(policy="lru")
    store.ingest(1, {}, metadata={c: {"lr": 0.5} for c in ("a", "b")})
    store.flush()
    document = tmp_path / "root" / "job=default" / "round=00000001" / "metadata.parquet"
    document.write_bytes(document.read_bytes()[:-9])
    assert store.request("hyperparameters", rounds=[1]).value.frame()["lr"].tolist() == [0.5, 0.5]
    store.close()
    with pytest.warns(RuntimeWarning, match=r"the metadata of round 1 is left out.*delete_metadata\('default', 1\)"):
        open_store(policy="lru")


@pytest.mark.services
@pytest.mark.parametrize("server", ["rclone", "swift"])
def test_on_s3(server: str, request: pytest.FixtureRequest) -> None:
    s3: S3Server = request.getfixturevalue(server)
    root = bucket(s3)["root"] + "/runs"
    with FLStore.local(functions=1, memory="64MiB", root=root, storage_options=s3.storage_options) as store:
        fill(store, range(1, 3))
        store.request("clustering", round=2, k=2)
        store.flush()
        files, path = store._objects._files, object_path(C3)
        whole = bytes(files.read(path))
        for damaged in (whole[:-1] + bytes([whole[-1] ^ 0xFF]), whole[:100], None):
            store._healing._told.clear()
            files.remove(path) if damaged is None else files.replace(path, damaged)
            with pytest.warns(RuntimeWarning, match="healed from the memory of function-0"):
                np.testing.assert_array_equal(store.update(2, "c3")["w"], make_round(2)["c3"]["w"])
            assert bytes(files.read(path)) == whole
        files.remove(path)
        assert [d.key for d in store.verify(progress=False).healed] == [C3]
