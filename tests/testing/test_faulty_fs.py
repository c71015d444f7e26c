"""The file system that fails on purpose does so by its plan, in every process; and what a store makes of it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.codec import decode, encode
from flstore.errors import CorruptObjectError, InvalidParameterError, StoreError, UpdateNotFoundError
from flstore.persistence import ObjectStore
from flstore.testing import faults
from flstore.testing.faulty_fs import Fault, FaultPlan
from flstore.types import Key, Kind

KEY = Key("job", Kind.UPDATE, 1, "a")
DATA = encode(KEY, {"w": np.arange(100, dtype=np.float32)})


@pytest.fixture
def plan(tmp_path: Path) -> FaultPlan:
    return FaultPlan(str(tmp_path / "plan"))


@pytest.fixture
def objects(plan: FaultPlan, tmp_path: Path) -> ObjectStore:
    return ObjectStore(plan.url(tmp_path / "root"), plan.storage_options)


def test_the_next_writes_fail_and_nothing_is_there(objects: ObjectStore, plan: FaultPlan, tmp_path: Path) -> None:
    with plan.stage(Fault("fail", "write", times=2)):
        for _ in range(2):
            with pytest.raises(StoreError, match="the fault 'fail' strikes a write"):
                objects.put(KEY, DATA)
            assert not objects.exists(KEY)
        assert objects.put(KEY, DATA) is True
    assert bytes(objects.get(KEY)) == bytes(DATA)
    assert [(s.kind, s.operation, s.pid) for s in plan.strikes()] == [("fail", "write", os.getpid())] * 2
    assert [p.name for p in tmp_path.rglob("*.tmp")] == []


@pytest.mark.parametrize(
    ("operation", "ask"),
    [
        ("read", lambda o: o.get(KEY)),
        ("list", lambda o: o.rounds("job")),
        ("list", lambda o: o.clients("job", 1)),
        ("look", lambda o: o.exists(KEY)),
        ("remove", lambda o: o.check_writable()),
    ],
)
def test_an_operation_that_fails_is_no_empty_answer(
    objects: ObjectStore, plan: FaultPlan, operation: str, ask: Any
) -> None:
    objects.put(KEY, DATA)
    with plan.stage(Fault("fail", operation)), pytest.raises(StoreError, match=f"strikes a {operation}"):
        ask(objects)
    ask(objects)


def test_a_torn_write_is_never_taken_for_an_update(objects: ObjectStore, plan: FaultPlan) -> None:
    with plan.stage(Fault("tear", "write", times=1)), pytest.raises(StoreError):
        objects.put(KEY, DATA)
    assert bytes(objects.get(KEY)) == bytes(DATA)[: len(DATA) // 2]
    with pytest.raises(CorruptObjectError):
        decode(objects.get(KEY), key=KEY)


def test_a_torn_write_is_mended_by_the_next_one(objects: ObjectStore, plan: FaultPlan) -> None:
    whole = {"w": np.arange(100_000, dtype=np.float32)}
    data = encode(KEY, whole)  # half of it still begins with its checksum
    with plan.stage(Fault("tear", "write", times=1)), pytest.raises(StoreError):
        objects.put(KEY, data)
    assert objects.put(KEY, data) is True
    np.testing.assert_array_equal(decode(objects.get(KEY), key=KEY)["w"], whole["w"])
    assert objects.put(KEY, data) is False


def test_a_torn_read_is_never_taken_for_an_update(objects: ObjectStore, plan: FaultPlan) -> None:
    objects.put(KEY, DATA)
    with plan.stage(Fault("tear", "read", times=1)), pytest.raises(CorruptObjectError):
        decode(objects.get(KEY), key=KEY)
    decode(objects.get(KEY), key=KEY)


def test_a_write_whose_answer_is_lost_is_done(objects: ObjectStore, plan: FaultPlan) -> None:
    with plan.stage(Fault("unanswered", "write", times=1)), pytest.raises(StoreError, match="unanswered"):
        objects.put(KEY, DATA)
    assert objects.put(KEY, DATA) is False
    assert bytes(objects.get(KEY)) == bytes(DATA)


def test_a_stall_lasts_until_it_is_lifted(objects: ObjectStore, plan: FaultPlan) -> None:
    number = plan.add(Fault("stall", "write"))
    done = threading.Event()

    def put() -> None:
        objects.put(KEY, DATA)
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    while not plan.strikes():
        assert thread.is_alive()
    assert not done.is_set()
    assert not objects.exists(KEY)
    plan.lift(number)
    thread.join(30)
    assert done.is_set()
    assert objects.exists(KEY)


def test_a_share_of_operations_is_chosen_by_the_seed(objects: ObjectStore, plan: FaultPlan) -> None:
    objects.put(KEY, DATA)

    def failed(seed: int) -> list[bool]:
        outcome = []
        with plan.stage(Fault("fail", "look", probability=0.5, seed=seed)):
            for _ in range(30):
                try:
                    outcome.append(not objects.exists(KEY))
                except StoreError:
                    outcome.append(True)
        return outcome

    assert failed(1) == failed(1) != failed(2)
    assert 0 < sum(failed(1)) < 30


def test_patterns_choose_paths(objects: ObjectStore, plan: FaultPlan) -> None:
    plan.add(Fault("fail", "write", match="*client=*"))
    objects.put_metadata("job", 1, {"a": {"loss": 1.0}})
    with pytest.raises(StoreError):
        objects.put(KEY, DATA)
    plan.lift()
    assert objects.put(KEY, DATA)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "explode", "operation": "read"}, "one of fail, stall, tear, unanswered, not 'explode'"),
        ({"kind": "fail", "operation": "reed"}, "one of write, read"),
        ({"kind": "tear", "operation": "list"}, "only a write or a read can tear"),
        ({"kind": "fail", "operation": "read", "times": 0}, "times=0"),
        ({"kind": "fail", "operation": "read", "probability": 1.5}, r"probability=1\.5"),
        ({"kind": "stall", "operation": "read", "delay_s": -1.0}, "delay_s"),
    ],
)
def test_faults_that_make_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidParameterError, match=says):
        Fault(**options)


def test_without_a_plan_the_message_says_what_to_pass(plan: FaultPlan, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match=r"storage_options=FaultPlan\(\.\.\.\)"):
        ObjectStore(f"faulty://{tmp_path}")


# --- a whole store --------------------------------------------------------------------------------------------------


def updates(round: int) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(round)
    return {c: {"w": rng.normal(size=200).astype("f4")} for c in "abc"}


def test_faults_strike_in_the_functions_too(plan: FaultPlan, tmp_path: Path) -> None:
    options: dict[str, Any] = {"root": plan.url(tmp_path / "root"), "storage_options": plan.storage_options}
    with FLStore.local(functions=1, memory="64MiB", policy="lru", **options) as store:
        pid = faults.functions(store)["function-0"]
        with plan.stage(Fault("fail", "write", times=2, match="*client=*")):
            store.ingest(1, updates(1)).wait(60)
        assert [(s.operation, s.pid) for s in plan.strikes()] == [("write", os.getpid())] * 2
        assert store.clients(1) == ["a", "b", "c"]
        with plan.stage(Fault("fail", "read", match="*client=b*")), pytest.raises(StoreError, match="'fail' strikes"):
            store.request("cosine_similarity", round=1)
        assert plan.strikes()[-1].pid == pid
        assert store.request("cosine_similarity", round=1).value.similarity.shape == (3, 3)
        with plan.stage(Fault("stall", "read", delay_s=0.0)):
            again = faults.restart(store, "function-0")  # what comes in its place has the plan as well
            store.request("cosine_similarity", round=1)
        assert again in {s.pid for s in plan.strikes()}


def test_damaged_files_of_a_faulty_root(objects: ObjectStore, plan: FaultPlan, tmp_path: Path) -> None:
    objects.put(KEY, DATA)
    faults.lose(plan.url(tmp_path / "root"), KEY)
    with pytest.raises(UpdateNotFoundError):
        objects.get(KEY)
