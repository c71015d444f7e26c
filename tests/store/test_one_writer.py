"""One writer a root and job: whoever comes second is told, takes over, or replaces a store of its own process."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.connection import runtime_folder
from flstore.errors import WriterExistsError
from flstore.persistence import ObjectStore, verify
from tests.store.conftest import CLIENTS, fill, make_round
from tests.store.other import FILL, Other, OtherError, opened


@pytest.fixture(autouse=True)
def _runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLSTORE_RUNTIME", str(tmp_path / "runtime"))


def test_a_second_writer_is_told_who_is_there_and_a_killed_one_leaves_no_lock(tmp_path: Path, open_store: Any) -> None:
    root = str(tmp_path / "root")
    with Other() as other:
        other.do(opened(root))
        with pytest.raises(WriterExistsError) as refused:
            open_store(root=root)
        said = str(refused.value)
        assert f"process {other.process.pid} on {os.uname().nodename} (since 20" in said
        assert all(way in said for way in (f"FLStore.attach({root!r})", "job=", "takeover=True"))
        other.do(FILL.format(1, 3) + "\nstore.flush()")
        other_job = open_store(root=root, job="other")
        assert other_job.rounds() == []
        with ObjStoreAgg(root) as baseline:
            assert baseline.rounds() == [1, 2]
        other.kill()
    store = open_store(root=root)
    assert store.rounds() == [1, 2]
    assert store._writing._claim.term.epoch == 2
    found = verify(root, progress=False)
    assert (found.ok, found.stray, found.temporaries) == (True, [], [])


def test_takeover_and_what_becomes_of_the_writer_before(tmp_path: Path, open_store: Any) -> None:
    root = str(tmp_path / "root")
    first = open_store(root=root)
    fill(first, range(1, 3))
    with Other() as other:
        other.do(opened(root, takeover=True))
        with pytest.raises(WriterExistsError, match=f"process {other.process.pid} on .* has taken over"):
            first.ingest(3, make_round(3))
        assert first.request("clustering", round=2, k=2).value.clients, "it still answers"
        first.flush()
        first.close()
        assert ObjectStore(root).clients("default", 2).keys() == {f"c{i}" for i in range(CLIENTS)}
        assert len(list(runtime_folder().glob("*.json"))) == 1, "the connection file is the second writer's now"
        other.do(FILL.format(3, 4) + "\nstore.close()")
    assert ObjectStore(root).rounds("default") == [0, 1, 2, 3]
    assert not list(runtime_folder().glob("*.json"))


def test_two_that_open_at_once(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    with Other() as one, Other() as two:
        for each in (one, two):
            each.do("import flstore.store, flstore.functions.pool")
        for each in (one, two):
            each.start(opened(root))
        won, lost = [], []
        for each in (one, two):
            try:
                won.append(each.finish())
            except OtherError as error:
                lost.append(str(error).split(":")[0])
        assert (len(won), lost) == (1, ["WriterExistsError"])


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_cell_that_is_run_twice(kind: str, tmp_path: Path, open_store: Any) -> None:
    root = str(tmp_path / "root") if kind == "file" else f"memory://{tmp_path.name}"
    first = open_store(root=root)
    first.ingest(1, make_round(1))
    with pytest.warns(RuntimeWarning, match="still open in this process") as seen:
        second = open_store(root=root)
    assert Path(seen[0].filename).name == "conftest.py", "it points at whoever opened the store"
    assert first.closed
    assert second.rounds() == [1]
    second.ingest(2, make_round(2))
    second.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = open_store(root=root)
    assert third.rounds() == [1, 2]
    assert third._writing._claim.term.epoch == 3


def test_a_store_that_cannot_open_leaves_no_claim(tmp_path: Path, open_store: Any, monkeypatch: Any) -> None:
    from flstore.functions import clusters

    root = str(tmp_path / "root")

    def fails(*_: Any) -> None:
        raise RuntimeError("no cluster")

    with monkeypatch.context() as patched:
        patched.setattr(clusters, "start_local", fails)
        with pytest.raises(RuntimeError, match="no cluster"):
            FLStore.local(root=root)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_store(root=root)
