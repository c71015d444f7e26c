"""Roots that refuse: read-only, full, absent or locked ones are named, and nothing that was taken in is lost."""

import ast
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flstore
from flstore import FLStore
from flstore.errors import StoreError
from flstore.persistence import verify
from flstore.testing.faulty_fs import Fault, FaultPlan
from flstore.testing.services import S3Server
from tests.disks import small_file_system
from tests.store.conftest import CLIENTS, fill, make_round

MEBIBYTE_OF_FLOATS = 2**18
SETTABLE = ("time.time", "datetime.now", "datetime.utcnow")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two mebibytes."""
    with small_file_system(tmp_path / "disk", "2m") as folder:
        yield folder


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True, capture_output=True)


def test_a_read_only_root_is_named(disk: Path) -> None:
    remount(disk, "ro")
    with pytest.raises(StoreError, match=rf"cannot write below {disk}/root: .*Read-only file system"):
        FLStore.local(root=str(disk / "root"))


def test_a_root_that_refuses_while_training_goes_on(tmp_path: Path) -> None:
    """A file system with open files cannot be made read-only under them, so this one says no by itself."""
    plan, root = FaultPlan(str(tmp_path / "plan")), tmp_path / "root"
    options: dict[str, Any] = {"storage_options": plan.storage_options, "memory": "64MiB"}
    with FLStore.local(functions=1, root=plan.url(root), **options) as store:
        fill(store, range(1, 3))
        store.flush()
        with plan.stage(Fault("fail", "write", match="*round=*")):
            store.ingest(3, make_round(3))
            with pytest.raises(StoreError, match=r"\d writes failed and are kept .*the fault 'fail' strikes a write"):
                store.flush()
            assert store.request("cosine_similarity", round=3).value.similarity.shape == (CLIENTS, CLIENTS)
            np.testing.assert_array_equal(store.update(3, "c1")["w"], make_round(3)["c1"]["w"])
        store.flush()
        assert verify(root, progress=False).ok
        assert store._objects.clients("default", 3).keys() == make_round(3).keys()


def test_a_disk_that_fills_up_while_training_goes_on(disk: Path) -> None:
    options: dict[str, Any] = {"functions": 1, "memory": "64MiB", "root": str(disk / "root")}
    rounds, size = range(1, 5), MEBIBYTE_OF_FLOATS // 4
    with FLStore.local(**options) as store:
        for r in rounds:  # a MiB a round
            store.ingest(r, make_round(r, 4, size))
            assert store.request("cosine_similarity", round=r).value.similarity.shape == (4, 4)
        with pytest.raises(StoreError, match=r"writes failed and are kept .*No space left on device"):
            store.flush()
        with pytest.raises(StoreError, match="No space left on device"):
            store.ingest(5, make_round(5, clients=1))  # said again at the next call; nothing of it is kept
        assert store.rounds() == list(rounds)
        for r in rounds:
            assert store.request("cosine_similarity", round=r).value.similarity.shape == (4, 4)
            np.testing.assert_array_equal(store.update(r, "c3")["w"], make_round(r, 4, size)["c3"]["w"])
        assert verify(store.root, progress=False).ok, "nothing torn is visible"
        remount(disk, "size=16m")
        store.flush()
    found = verify(disk / "root", progress=False)
    assert (found.ok, found.temporaries) == (True, [])
    assert found.objects == 4 * 4 + 4


@pytest.mark.services
def test_buckets_that_are_not_there_and_keys_that_are_wrong(rclone: S3Server) -> None:
    there = rclone.create_bucket("there")
    with pytest.raises(StoreError, match=r"below s3://nowhere/runs: .*(bucket|NoSuchBucket)"):
        FLStore.local(root="s3://nowhere/runs", storage_options=rclone.storage_options)
    for wrong in ({"secret": "hunter2-hunter2"}, {"key": "nobody", "secret": "hunter2-hunter2"}):
        with pytest.raises(StoreError, match="below s3://there") as refused:
            FLStore.local(root=there, storage_options={**rclone.storage_options, **wrong})
        chain: BaseException | None = refused.value
        assert "hunter2" not in f"{refused.value!r}{refused.value}"
        while (chain := chain.__cause__ if chain else None) is not None:
            assert "hunter2" not in f"{chain!r}{chain}"


def test_a_clock_that_jumps_disturbs_nothing(open_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(functions=2)
    fill(store, range(1, 3))
    real, before = time.time, {f.incarnation for f in store._pool.functions.values()}
    for jump_s in (86_400.0, -86_400.0, 0.0):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: real() + jump_s)
        answer = store.request("clustering", round=1, k=2, deadline_s=20)
        assert (answer.record.status, answer.record.latency_s < 20) == ("done", True)
        store.ingest(3 + int(jump_s), make_round(3)) if jump_s >= 0 else None
        heard = threading.Event()
        heard.wait(0.6)  # at least one ping
        assert store._pool.silent() == frozenset()
        store.flush()
        assert store._objects.clean_temporaries(0) == {}
    assert {f.incarnation for f in store._pool.functions.values()} == before


def test_no_wait_is_measured_with_a_clock_that_can_be_set() -> None:
    package = Path(flstore.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in SETTABLE:
                found.append(f"{path.relative_to(package)}")
    assert set(found) <= {"persistence/term.py"}, "but for what is only shown"
