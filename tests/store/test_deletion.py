"""What an open store deletes is gone from memory and from disk, whatever the functions are doing meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from flstore import FLStore, policies
from flstore.baselines import ObjStoreAgg
from flstore.engine import fold
from flstore.errors import InvalidParameterError, StoreError, UnknownNameError, UpdateNotFoundError
from flstore.persistence import verify
from flstore.policies import LRU, Policy
from flstore.testing.faulty_fs import Fault, FaultPlan
from flstore.types import Deleted, FunctionLost, Key, Kind
from tests.store.conftest import CLIENTS, fill, make_aggregate, make_round
from tests.store.odd_workloads import WaitsForFile
from tests.store.test_delete import files_with
from tests.store.test_hangs import DEADLINE_S, hung, wait_until

ANOTHER = {"c2": {"w": np.full(2000, 3, "f4"), "seen": np.array(1)}}
"""Of round 1, with the size of what the client sent before."""


def norm_of_another(store: FLStore) -> float:
    answer = store.request("cosine_similarity", round=1, of="model").value
    return float(answer.norms[answer.clients.index("c2")])


def held(store: FLStore) -> set[Key]:
    return {key for keys in store.inventory().values() for key in keys}


def indexed(store: FLStore) -> set[tuple[str, Key]]:
    from flstore.types import KeySet

    return {
        (store._pool.functions[f].name, key)
        for f, slots in store._state.holdings().items()
        for (job, kind, round), clients in slots.items()
        for key in store._catalogue.keys(KeySet.of_round(job, kind, round, clients))
    }


def check_index(store: FLStore) -> None:
    store.flush()
    assert {(name, key) for name, keys in store.inventory().items() for key in keys} == indexed(store)
    assert fold(store.log, policies.make(store.log.header["policy"]))[1] == []


def test_a_client_that_left_is_nowhere(open_store: Callable[..., FLStore], tmp_path: Path) -> None:
    store = open_store(functions=2)
    fill(store, range(1, 4))
    store.request("clustering", round=2, k=2)
    store.request("lineage", client="c2", round=3)
    store.flush()
    copies = sum(key.client == "c2" for keys in store.inventory().values() for key in keys)
    assert copies > 3
    removed = store.delete(client="c2", progress=False)
    assert (removed.updates, removed.metadata_rows, removed.aggregates) == (3, 3, 0)
    assert (removed.clients, removed.rounds, removed.memory_copies) == (("c2",), (1, 2, 3), copies)
    assert f"copies in memory  {copies}" in repr(removed)
    assert not [key for key in held(store) if key.client == "c2"]
    assert (store._moves._loads, store._writer._pending) == ({}, {})
    assert [files_with(tmp_path / "root", text) for text in (b'"c2"', b"client=c2")] == [[], []]
    assert store.clients() == ["c0", "c1", "c3", "c4"]
    assert "c2" not in store.metadata().index.get_level_values("client")
    assert not [row for rows in store._rows.values() for row in rows if row == "c2"]
    assert store.aggregate(2)["w"].tolist() == make_aggregate(2)["w"].tolist()
    asks: list[Callable[[], Any]] = [
        lambda: store.update(2, "c2"), lambda: store.request("lineage", client="c2"), lambda: store.delete(client="c2"),
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(UpdateNotFoundError, match="c2"):
            ask()
    assert store.request("clustering", round=2, k=2).value.clients == ["c0", "c1", "c3", "c4"]
    assert (store.requests["client"] == "c2").any()  # the record of what was asked stays
    check_index(store)
    assert verify(tmp_path / "root", job="default").ok


@pytest.mark.parametrize("policy", ["p2", "p3", "lru"])
def test_rounds_go_and_may_come_again_with_other_content(open_store: Callable[..., FLStore], policy: str) -> None:
    store = open_store(policy=policy)
    fill(store, range(1, 4))
    store.request("clustering", round=2, k=2)
    removed = store.delete(rounds=[2, 3], progress=False)
    assert (removed.updates, removed.aggregates, removed.metadata_rows) == (2 * CLIENTS, 2, 2 * CLIENTS)
    assert (store.rounds(), {k.round for k in held(store)} <= {0, 1}) == ([1], True)
    with pytest.raises(UpdateNotFoundError, match="aggregate of round 2"):
        store.aggregate(2)
    other = {client: {"w": -tensors["w"][:7]} for client, tensors in make_round(2).items()}  # another architecture
    assert len(store.ingest(2, other).clients) == CLIENTS
    store.flush()
    assert np.array_equal(store.update(2, "c1")["w"], other["c1"]["w"])
    answer = store.request("cosine_similarity", round=2, of="model").value
    assert answer.norms == pytest.approx([np.linalg.norm(other[c]["w"].astype("f8")) for c in answer.clients])
    check_index(store)


def test_this_job_and_another_one(open_store: Callable[..., FLStore], tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    with ObjStoreAgg(root, job="other") as other:
        fill(other, range(1, 3))
    store = open_store()
    fill(store, range(1, 3))
    with pytest.raises(UnknownNameError, match=r"job named 'othr'.*'other'"):
        store.delete(job="othr")
    assert store.delete(job="other", progress=False).updates == 2 * CLIENTS
    assert store.rounds() == [1, 2]
    removed = store.delete(job="default", progress=False)
    assert (removed.updates, removed.aggregates, removed.rounds) == (2 * CLIENTS, 3, (0, 1, 2))
    assert (store.rounds(), store.clients(), len(store.metadata()), held(store)) == ([], [], 0, set())
    left = {p.name for p in (tmp_path / "root").rglob("*") if p.is_file()}
    assert left <= {".writer.lock", ".writer.guard"}, "these know the epoch of the next writer"
    assert store._state.tables == {}
    assert store.delete(job="default", progress=False).size_bytes == 0
    fill(store, range(1, 3))
    check_index(store)


@pytest.mark.parametrize("system", ["FLStore", "ObjStoreAgg"])
def test_what_does_not_exist_is_named_and_nothing_removed(system: str, tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    store: Any = ObjStoreAgg(root) if system == "ObjStoreAgg" else FLStore.local(1, memory="64MiB", root=root)
    with store:
        fill(store, range(1, 4))
        store.flush()
        before = verify(root, job="default")
        for options, error, message in [
            ({"client": "c22"}, UpdateNotFoundError, "did you mean 'c2'"),
            ({"rounds": [2, 9]}, UpdateNotFoundError, "nearest rounds: 1, 2, 3"),
            ({}, InvalidParameterError, "exactly one of client=, rounds= and job=, got none"),
            ({"client": "c2", "rounds": [1]}, InvalidParameterError, "got client='c2', rounds="),
            ({"rounds": []}, InvalidParameterError, "rounds is empty"),
            ({"rounds": 2}, InvalidParameterError, r"rounds=\[2\]"),
        ]:
            with pytest.raises(error, match=message):
                store.delete(**options)
        assert verify(root, job="default").objects == before.objects
        removed = store.delete(client="c2", progress=False)
        assert (removed.updates, removed.metadata_rows) == (3, 3)
        assert store.clients() == ["c0", "c1", "c3", "c4"]
        with pytest.raises(UpdateNotFoundError, match="c2"):
            store.request("lineage", client="c2")
        assert store.request("clustering", round=2, k=2).value.clients == ["c0", "c1", "c3", "c4"]


def test_a_request_under_way_ends_and_what_it_reads_goes_then(
    open_store: Callable[..., FLStore], tmp_path: Path
) -> None:
    store = open_store(policy=LRU(fill="write-allocate"))
    fill(store, range(1, 3))
    store.flush()
    gate = tmp_path / "gate"
    running = store.submit(WaitsForFile(path=str(gate)), round=1)
    wait_until(lambda: bool(running.done() or store.requests["status"].eq("running").any()))
    store.delete(rounds=[1], progress=False)
    assert {key.round for key in held(store)} == {0, 2}
    gate.touch()
    with contextlib.suppress(UpdateNotFoundError):
        assert len(running.result(60).value.clients) == CLIENTS
    with pytest.raises(UpdateNotFoundError, match="round 1"):
        store.submit("clustering", round=1)


def test_a_function_that_hangs_has_dropped_it_before_it_is_used_again(open_store: Callable[..., FLStore]) -> None:
    store = open_store(functions=1, ping_deadline_s=DEADLINE_S, policy=LRU(fill="write-allocate"))
    fill(store, range(1, 3))
    store.flush()
    with hung(store, "function-0"):
        wait_until(lambda: bool(store._pool.silent()))
        assert store.delete(client="c2", progress=False).memory_copies == 4
        store.ingest(1, ANOTHER)
    assert norm_of_another(store) == pytest.approx(3 * 2000**0.5, rel=0.02)
    store.flush()
    assert len([key for key in held(store) if key.client == "c2"]) == 2
    assert {(n, k) for n, keys in store.inventory().items() for k in keys} == indexed(store)


def test_a_function_that_was_given_up_comes_back_without_it(open_store: Callable[..., FLStore]) -> None:
    store = open_store(functions=1, ping_deadline_s=DEADLINE_S, policy=LRU(fill="write-allocate"))
    fill(store, range(1, 3))
    store.flush()
    with hung(store, "function-0"):
        wait_until(lambda: any(isinstance(e.event, FunctionLost) for e in list(store.log)))
        store.delete(client="c2", progress=False)
        store.ingest(1, ANOTHER)
    assert norm_of_another(store) == pytest.approx(3 * 2000**0.5, rel=0.02)
    store.flush()
    assert {(n, k) for n, keys in store.inventory().items() for k in keys} == indexed(store)
    assert Key("default", Kind.UPDATE, 2, "c2") not in held(store)


def test_a_deletion_that_failed_half_way_may_be_repeated(tmp_path: Path) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    url = plan.url(tmp_path / "root")
    with FLStore.local(1, memory="64MiB", root=url, storage_options=plan.storage_options) as store:
        fill(store, range(1, 4))
        store.flush()
        for options in ({"client": "c2"}, {"rounds": [3]}):
            with plan.stage(Fault("fail", "remove", match="*round=*3/*")), pytest.raises(StoreError, match="delete"):
                store.delete(**options, progress=False)
            store.delete(**options, progress=False)
        assert files_with(tmp_path / "root", b"client=c2") == files_with(tmp_path / "root", b"round=00000003") == []
        with pytest.raises(UpdateNotFoundError):
            store.delete(rounds=[3])


def test_a_write_that_failed_does_not_come_back(tmp_path: Path) -> None:
    """What cannot be written can be deleted, so that a full disk has a way out."""
    plan = FaultPlan(str(tmp_path / "plan"))
    url = plan.url(tmp_path / "root")
    with FLStore.local(1, memory="64MiB", root=url, storage_options=plan.storage_options) as store:
        fill(store, range(1, 3))
        store.flush()
        with plan.stage(Fault("fail", "write", match="*round=00000003*")):
            receipt = store.ingest(3, make_round(3))
            for write in receipt._writes:
                assert write.exception(60) is not None
            store.delete(rounds=[1], progress=False)
            store.delete(client="c2", progress=False)
            assert sorted(key.client for key in store._writer._pending) == ["c0", "c1", "c3", "c4"]
            store.delete(rounds=[3], progress=False)
            assert (store._writer.pending_bytes, store._writer._documents) == (0, {})
        store.flush()
        assert store.rounds() == [2]
        assert files_with(tmp_path / "root", b"round=00000003") == []


class Stumbles(LRU):
    """Raises when objects are deleted."""

    name: ClassVar[str] = "stumbles"

    def decide(self, event: Any, view: Any) -> Any:
        if isinstance(event, Deleted):
            raise KeyError("no")
        return super().decide(event, view)


def test_a_policy_that_raises_keeps_nothing_alive(open_store: Callable[..., FLStore]) -> None:
    policy: Policy = Stumbles(fill="write-allocate")
    store = open_store(policy=policy)
    fill(store, range(1, 2))
    store.flush()
    with pytest.warns(RuntimeWarning, match="stumbles"):
        assert store.delete(client="c2", progress=False).memory_copies == 2
    assert not [key for key in held(store) if key.client == "c2"]
