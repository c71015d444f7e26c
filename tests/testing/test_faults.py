"""Each fault does to a real store what it says, and leaves it as it says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from flstore import FLStore
from flstore.errors import CorruptObjectError, InvalidParameterError, UnknownNameError, UpdateNotFoundError
from flstore.persistence import ObjectStore
from flstore.testing import faults
from flstore.types import Key, Kind

ROUNDS, CLIENTS = (1, 2), ("a", "b", "c")


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., FLStore]]:
    stores: list[FLStore] = []

    def open(**options: Any) -> FLStore:
        store = FLStore.local(**{"memory": "64MiB", "root": str(tmp_path / "root"), "ping_deadline_s": 0.5, **options})
        stores.append(store)
        for r in ROUNDS:
            rng = np.random.default_rng(r)
            store.ingest(r, {c: {"w": rng.normal(size=100).astype("f4")} for c in CLIENTS})
        store.flush()
        return store

    yield open
    for store in stores:
        store.close()


def similarity(store: FLStore) -> list[list[float]]:
    answer: list[list[float]] = store.request("cosine_similarity", round=2).value.similarity.tolist()
    return answer


def test_a_killed_function_is_gone_and_a_restarted_one_is_another_process(open_store: Any) -> None:
    store = open_store(functions=2)
    assert list(before := faults.functions(store)) == ["function-0", "function-1"]
    expected = similarity(store)
    faults.kill(store, "function-0")
    assert not psutil.pid_exists(before["function-0"])
    assert similarity(store) == expected
    after = faults.restart(store, "function-1")
    assert after == faults.functions(store)["function-1"] != before["function-1"]
    assert not psutil.pid_exists(before["function-1"])
    assert similarity(store) == expected


def test_a_hung_function_is_stopped_and_goes_on_even_after_an_error(open_store: Any) -> None:
    store = open_store(functions=2)
    expected = similarity(store)
    process = psutil.Process(faults.functions(store)["function-0"])

    def interrupted() -> None:
        with faults.hang(store, "function-0"):
            assert process.status() == psutil.STATUS_STOPPED
            assert similarity(store) == expected
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert process.status() != psutil.STATUS_STOPPED
    assert similarity(store) == expected


def test_a_hung_function_that_ends_meanwhile_is_no_error(open_store: Any) -> None:
    store = open_store(functions=1)
    pid = faults.functions(store)["function-0"]
    with faults.hang(store, "function-0"):
        faults.kill(store, "function-0")
    assert not psutil.pid_exists(pid)
    assert len(similarity(store)) == len(CLIENTS)


def test_a_slow_function_answers_and_runs_freely_afterwards(open_store: Any) -> None:
    store = open_store(functions=1)
    process = psutil.Process(faults.functions(store)["function-0"])
    with faults.slow(store, "function-0", share=0.3, period_s=0.02):
        states = {process.status() for _ in range(1000)}
        assert len(similarity(store)) == len(CLIENTS)
    assert psutil.STATUS_STOPPED in states
    assert len(states) > 1
    assert process.status() != psutil.STATUS_STOPPED
    with (
        pytest.raises(InvalidParameterError, match=r"share=1\.5 must lie in"),
        faults.slow(store, "function-0", share=1.5),
    ):
        pass


@pytest.mark.usefixtures("own_interpreters")
def test_severed_connections_are_closed_and_requests_answered(open_store: Any) -> None:
    store = open_store(functions=2)
    expected = similarity(store)
    pid = faults.functions(store)["function-0"]
    theirs = {c.laddr for c in psutil.Process(pid).net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED}
    assert theirs & _peers()
    assert faults.sever(store, "function-0") > 0
    assert theirs.isdisjoint(_peers())
    assert similarity(store) == expected


def _peers() -> set[Any]:
    """Addresses that this process is connected to."""
    return {c.raddr for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED}


def test_names_that_are_not_there_and_functions_that_are_threads(open_store: Any) -> None:
    store = open_store(functions=1)
    for strike in (faults.kill, faults.restart, faults.sever):
        with pytest.raises(UnknownNameError, match=r"'function-7'.* Known: function-0\."):
            strike(store, "function-7")
    for context in (faults.hang, faults.slow):
        with pytest.raises(UnknownNameError, match="function-0"), context(store, "function-7"):
            pass
    with (
        FLStore.local(functions=1, memory="64MiB", root="memory://faults") as threads,
        pytest.raises(InvalidParameterError, match="threads of this process"),
    ):
        faults.kill(threads, "function-0")


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with the update of client a in round 1."""
    from flstore.codec import encode

    ObjectStore(tmp_path).put(KEY, encode(KEY, {"w": np.ones(100, np.float32)}))
    return tmp_path


KEY = Key("job", Kind.UPDATE, 1, "a")


def whole(root: Path) -> bytes:
    return bytes(ObjectStore(root).get(KEY))


def load(root: Path) -> Any:
    from flstore.persistence.values import read

    return read(ObjectStore(root), KEY)


def test_torn_corrupt_and_lost_files(root: Path) -> None:
    intact = whole(root)
    load(root)
    position = faults.corrupt(root, KEY)
    damaged = whole(root)
    assert [i for i in range(len(intact)) if damaged[i] != intact[i]] == [position] == [len(intact) - 1]
    with pytest.raises(CorruptObjectError):
        load(root)
    assert faults.corrupt(f"file://{root}", KEY, at=position) == position
    assert whole(root) == intact, "inverted twice"
    assert faults.tear(root, KEY, keep=0.25) == len(intact) // 4
    assert whole(root) == intact[: len(intact) // 4]
    with pytest.raises(CorruptObjectError):
        load(root)
    faults.lose(str(root), KEY)
    with pytest.raises(UpdateNotFoundError):
        load(root)


def test_files_that_cannot_be_damaged(root: Path) -> None:
    absent = Key("job", Kind.UPDATE, 9, "a")
    for damage in (faults.tear, faults.corrupt, faults.lose):
        with pytest.raises(UpdateNotFoundError, match="no update of client 'a' in round 9"):
            damage(root, absent)
        with pytest.raises(InvalidParameterError, match="s3://bucket is not on this machine"):
            damage("s3://bucket", KEY)
    with pytest.raises(InvalidParameterError, match="outside the"):
        faults.corrupt(root, KEY, at=10**6)
    with pytest.raises(InvalidParameterError, match=r"keep=1 is outside"):
        faults.tear(root, KEY, keep=1)


# --- at random ------------------------------------------------------------------------------------------------------


def test_random_faults_are_equal_for_an_equal_seed(open_store: Any) -> None:
    store = open_store(functions=2)

    def drawn(seed: int) -> list[str]:
        return [str(f) for f in itertools.islice(faults.random_faults(store, faults.KINDS, seed), 40)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert {line.split()[2] for line in drawn(1)} == set(faults.KINDS)
    with pytest.raises(InvalidParameterError, match="name at least one of kill, hang"):
        faults.random_faults(store, ["explode"])


def test_after_random_faults_functions_are_back_and_files_whole(open_store: Any, tmp_path: Path) -> None:
    store = open_store(functions=2)
    expected = similarity(store)
    before = {p: p.read_bytes() for p in (tmp_path / "root").rglob("*") if p.is_file()}
    kinds = ["kill", "hang", "tear", "lose"]
    seen = set()
    for fault in itertools.islice(faults.random_faults(store, kinds, seed=3), 10):
        seen.add(fault.kind)
        with fault.applied():
            now = {p: p.read_bytes() for p in (tmp_path / "root").rglob("*") if p.is_file()}
            assert (now != before) == (fault.kind in ("tear", "lose"))
            if fault.kind not in ("tear", "lose"):
                assert similarity(store) == expected
    assert seen == set(kinds)
    assert {p: p.read_bytes() for p in (tmp_path / "root").rglob("*") if p.is_file()} == before
    assert all(psutil.Process(p).status() != psutil.STATUS_STOPPED for p in faults.functions(store).values())
    assert similarity(store) == expected
