"""Under retention the newest rounds stay and nothing grows: not the disk, the index, nor what functions remember."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.errors import InvalidParameterError, InvalidUpdateError, UpdateNotFoundError
from flstore.federated.feeder import Feeder, Parcel
from flstore.functions.function import CacheFunction
from flstore.persistence import verify
from flstore.testing.faulty_fs import Fault, FaultPlan
from flstore.types import Kind
from tests.store.conftest import CLIENTS, fill, make_aggregate, make_round
from tests.store.test_deletion import check_index, held
from tests.store.test_hangs import wait_until


def stored(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("[!.]*") if path.is_file())


def of_rounds(root: Path) -> set[str]:
    return {path.split("/")[1] for path in stored(root)}


def test_disk_and_memory_stay_bounded_while_training_goes_on(
    open_store: Callable[..., FLStore], tmp_path: Path
) -> None:
    store = open_store(functions=2, retention=2)
    sizes = set()
    for r in range(1, 31):
        fill(store, range(r, r + 1))
        store.request("clustering", round=r, k=2)
        store.request("lineage", client="c1", round=r)
        store.request("hyperparameters")
        if r % 5 == 0:
            store.flush()
            files = stored(tmp_path / "root")
            # Two rounds with updates, aggregate and metadata, and the aggregate that the older one started from.
            assert len(files) == 2 * (CLIENTS + 2) + 1
            assert f"job=default/round={r - 2:08d}/aggregate.safetensors" in files
            state = store._state
            sizes.add((
                sum(len(tables) for tables in state.tables.values()), sum(map(len, state.rounds.values())),
                sum(map(len, state._chains.values())), len(store._rows), len(store._signatures),
                sum(len(slots) for slots in state.ledger._rows.values()), len(state.waiting), len(state.short),
                len(state.copied), len(held(store)),
            ))  # fmt: skip
    assert len(sizes) == 1
    assert (store.rounds(), store.metadata().index.get_level_values("round").unique().tolist()) == ([29, 30], [29, 30])
    assert store.aggregate(28)["seen"] == 28
    assert store.request("cosine_similarity", round=29, of="delta").value.of == "delta"
    assert verify(tmp_path / "root", job="default").ok
    for ask in (
        lambda: store.update(28, "c1"),
        lambda: store.aggregate(27),
        lambda: store.request("lineage", client="c1", rounds=[28]),
    ):
        with pytest.raises(UpdateNotFoundError):
            ask()
    check_index(store)


def test_what_a_round_pushes_out_is_gone_before_the_round_is_written(
    open_store: Callable[..., FLStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(functions=1, retention=2)
    fill(store, range(1, 3))
    store.flush()
    submit, left = store._writer.submit, []

    def watched(key: Any, buffer: Any) -> Any:
        if not left:  # whoever ingests waits here, with the lock of ingests: erasing needs it no more
            old = f"round={1:08d}"
            wait_until(lambda: not any(old in path and "client" in path for path in stored(tmp_path / "root")))
            left.extend(stored(tmp_path / "root"))
        return submit(key, buffer)

    monkeypatch.setattr(store._writer, "submit", watched)
    fill(store, range(3, 4))
    store.flush()
    assert not any(f"round={3:08d}" in path for path in left)
    assert (store.rounds(), store.clients(2), store.clients(3)) == ([2, 3], store.clients(3), store.clients(2))
    assert store.aggregate(1)["seen"] == 1, "the model that the older one started from"
    assert verify(tmp_path / "root", job="default").ok


def test_functions_do_not_remember_what_was_dropped(tmp_path: Path) -> None:
    with FLStore.local(functions=1, root=f"memory://{tmp_path.name}-tombstones", retention=1, memory="64MiB") as store:
        for r in range(1, 12):
            fill(store, range(r, r + 1))
            store.request("clustering", round=r, k=2)
        store.flush()
        (worker,) = store._pool.cluster.workers.values()
        (function,) = [p for p in worker.plugins.values() if isinstance(p, CacheFunction)]
        assert {key.round for key in function.memory.entries} <= {10, 11}
        assert {key.round for key in function.memory.tombstones} <= set(range(7, 12)), "not of all eleven rounds"


def test_a_late_update_is_refused_and_the_model_before_the_oldest_round_is_not(
    open_store: Callable[..., FLStore], tmp_path: Path
) -> None:
    store = open_store(retention=2)
    fill(store, range(4, 8))
    for late in ({"updates": {"new": make_round(5)["c0"]}}, {"updates": {}, "metadata": {"c0": {"eval_loss": 1.0}}}):
        with pytest.raises(InvalidUpdateError, match=r"round 5 comes too late: with retention=2.*6 to 7"):
            store.ingest(5, **late)
    with pytest.raises(InvalidUpdateError, match="round 3 comes too late"):
        store.ingest(3, {}, aggregate=make_aggregate(3))
    store.flush()
    assert of_rounds(tmp_path / "root") == {f"round={r:08d}" for r in (5, 6, 7)}
    store.delete(rounds=[5], progress=False)  # only its aggregate was left
    assert store.ingest(5, {}, aggregate=make_aggregate(5)).size_bytes > 0
    assert store.ingest(6, {"new": make_round(6)["c0"]}).clients == ("new",)
    store.ingest(7, {}, metadata={"c0": {"eval_loss": 1.0}})
    store.flush()
    assert of_rounds(tmp_path / "root") == {f"round={r:08d}" for r in (5, 6, 7)}
    check_index(store)


def test_after_a_deletion_there_is_room_for_older_rounds(open_store: Callable[..., FLStore], tmp_path: Path) -> None:
    store = open_store(retention=1)
    fill(store, range(1, 4))
    store.delete(job="default", progress=False)
    fill(store, range(1, 3))
    store.flush()
    assert (store.rounds(), of_rounds(tmp_path / "root")) == ([2], {"round=00000001", "round=00000002"})


def test_a_root_that_has_more_rounds_is_cut_when_the_next_one_comes(
    open_store: Callable[..., FLStore], tmp_path: Path
) -> None:
    first = open_store()
    fill(first, range(1, 6))
    first.close()
    store = open_store(retention=2)
    assert store.rounds() == [1, 2, 3, 4, 5]
    fill(store, range(6, 7))
    store.flush()
    assert store.rounds() == [5, 6]
    assert of_rounds(tmp_path / "root") == {f"round={r:08d}" for r in (4, 5, 6)}


def test_the_caller_does_not_wait_and_what_fails_is_tried_with_the_next_round(tmp_path: Path) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    url = plan.url(tmp_path / "root")
    options: dict[str, Any] = {"storage_options": plan.storage_options, "retention": 1, "memory": "64MiB"}
    with FLStore.local(1, root=url, **options) as store:
        with plan.stage(Fault("stall", "remove")):  # until it is lifted
            fill(store, range(1, 4))
            assert store.rounds()[-1] == 3
            wait_until(lambda: bool(plan.strikes()))
        store.flush()
        assert store.rounds() == [3]
        with plan.stage(Fault("fail", "remove")), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fill(store, range(4, 7))
            store.flush()
        (said,) = [str(w.message) for w in caught if w.category is RuntimeWarning]
        assert "retention=1" in said
        assert "tried again with the next round" in said
        assert store.rounds() == [6]
        with pytest.raises(InvalidUpdateError, match="too late"):
            store.ingest(4, {"new": make_round(4)["c0"]})
        fill(store, range(7, 8))
        store.flush()
        assert of_rounds(tmp_path / "root") == {"round=00000006", "round=00000007"}
        check_index(store)


def test_ingests_requests_and_deletions_at_the_same_time(open_store: Callable[..., FLStore], tmp_path: Path) -> None:
    store = open_store(functions=2, retention=3, memory="256KiB")
    done, errors = threading.Event(), []

    def ask() -> None:
        while not done.is_set():
            for r in store.rounds()[-3:]:
                try:
                    store.request("clustering", round=r, k=2)
                except UpdateNotFoundError:
                    continue  # deleted meanwhile
                except Exception as error:
                    errors.append(error)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for r in range(1, 16):
            fill(store, range(r, r + 1))
            if r % 5 == 0:
                store.delete(client="c3", progress=False)
    finally:
        done.set()
        for asker in askers:
            asker.join()
    assert errors == []
    store.flush()
    assert store.rounds() == [13, 14, 15]
    assert of_rounds(tmp_path / "root") == {f"round={r:08d}" for r in (12, 13, 14, 15)}
    assert not [key for key in held(store) if key.client == "c3" or (key.kind is Kind.UPDATE and key.round < 13)]
    check_index(store)


def test_a_feeder_that_is_late_is_told_at_the_next_flush(open_store: Callable[..., FLStore]) -> None:
    store = open_store(retention=1)
    fill(store, range(1, 4))
    feeder = Feeder(store)
    store.add_feeder(feeder)
    feeder.submit(Parcel(1, updates={"c9": lambda: {"w": np.ones(3)}}))
    with pytest.warns(RuntimeWarning, match="round 1"), pytest.raises(InvalidUpdateError, match="retention=1"):
        store.flush()
    store.flush()


@pytest.mark.parametrize("retention", [0, -1, 1.5, True, "2"])
def test_a_retention_that_is_none_is_refused_before_anything_starts(tmp_path: Path, retention: Any) -> None:
    with pytest.raises(InvalidParameterError, match="retention is a number of rounds of at least 1"):
        FLStore.local(1, root=str(tmp_path / "root"), retention=retention)
    assert not (tmp_path / "root").exists()
