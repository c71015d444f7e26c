"""Processes that are killed: requests are answered all the same, and nothing that was acknowledged is lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from flstore import FLStore
from flstore.persistence import ObjectStore
from flstore.types import FunctionJoined, FunctionLost
from tests.store.conftest import CLIENTS, fill, make_round


def kill(store: FLStore, *names: str) -> None:
    """SIGKILL the processes of functions, and wait until they are gone."""
    for function in list(store._pool.functions.values()):
        if function.name in names:
            process = psutil.Process(function.pid)
            process.kill()
            process.wait(10)


def test_a_function_killed_between_ingest_and_request(open_store: Any) -> None:
    store = open_store(functions=2)
    fill(store, range(1, 4))
    expected = store.request("cosine_similarity", round=2)
    store.flush()
    (holder,) = {n for n, keys in store.inventory().items() if any(k.kind == 0 and k.round == 2 for k in keys)}
    kill(store, holder)
    answer = store.request("cosine_similarity", round=2)
    np.testing.assert_array_equal(answer.value.similarity, expected.value.similarity)
    lost = [e.event for e in store.log if isinstance(e.event, FunctionLost)]
    assert len(lost) == 1
    for r in (1, 2, 3):  # nothing is lost
        for c, tensors in make_round(r).items():
            np.testing.assert_array_equal(store.update(r, c)["w"], tensors["w"])


def test_a_killed_function_comes_back_empty_and_is_used_again(open_store: Any) -> None:
    store = open_store(functions=1)
    fill(store, range(1, 3))
    store.request("clustering", round=1, k=2)
    store.flush()
    before = store._pool.functions[0].incarnation
    kill(store, "function-0")
    answer = store.request("clustering", round=2, k=2)  # waits for the restart: there is no other
    assert answer.value.k == 2
    joined = [e.event for e in store.log if isinstance(e.event, FunctionJoined)]
    assert [j.holds for j in joined] == [(), ()]
    assert joined[0].incarnation == before != joined[1].incarnation
    store.flush()
    held = [k for keys in store.inventory().values() for k in keys if k.kind == 0]
    assert {k.round for k in held} == {2}, "what was wanted is in memory again"
    assert store.request("clustering", round=2, k=2).record.hits == CLIENTS + 1


def test_killed_while_requests_run(open_store: Any) -> None:
    store = open_store(functions=2)
    fill(store, range(1, 5))
    expected = {r: store.request("clustering", round=r, k=2).value.labels.tolist() for r in range(1, 5)}
    futures = [(r, store.submit("clustering", round=r, k=2)) for _ in range(20) for r in range(1, 5)]
    kill(store, "function-0")
    futures += [(r, store.submit("clustering", round=r, k=2)) for _ in range(5) for r in range(1, 5)]
    for r, future in futures:
        assert future.result(timeout=60).value.labels.tolist() == expected[r]


def test_all_functions_killed_at_once(open_store: Any) -> None:
    store = open_store(functions=2)
    fill(store, range(1, 3))
    kill(store, "function-0", "function-1")
    assert store.request("clustering", round=1, k=2).value.k == 2


TRAINER = """
import sys
from flstore import FLStore
from tests.store.conftest import make_round

store = FLStore.local(functions=1, memory="64MiB", root=sys.argv[1])
print("functions", *(f.pid for f in store._pool.functions.values()), flush=True)
for r in range(1, 10_000):
    receipt = store.ingest(r, make_round(r), metadata={c: {"round": r} for c in make_round(r)})
    if r % 3 == 0:
        receipt.wait(60)
        print("durable", r, flush=True)
    else:
        print("ingested", r, flush=True)
"""


def test_the_trainer_killed_in_the_middle(tmp_path: Path) -> None:
    root = tmp_path / "root"
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, str(root)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    durable: list[int] = []
    functions: list[int] = []
    assert trainer.stdout is not None
    for line in trainer.stdout:
        what, *numbers = line.split()
        if what == "functions":
            functions = [int(n) for n in numbers]
        elif what == "durable":
            durable.append(int(numbers[0]))
        if len(durable) == 5:
            os.kill(trainer.pid, signal.SIGKILL)
            break
    trainer.wait(30)
    assert durable == [3, 6, 9, 12, 15]

    with FLStore.local(functions=1, memory="64MiB", root=str(root)) as store:
        for r in durable:
            for c, tensors in make_round(r).items():
                np.testing.assert_array_equal(store.update(r, c)["w"], tensors["w"])
        for r in store.rounds():  # what is visible is whole
            for c in store.clients(r):
                np.testing.assert_array_equal(store.update(r, c)["w"], make_round(r)[c]["w"])
        assert store.request("clustering", round=15, k=2).value.k == 2
        assert store.ingest(15, make_round(15)).clients == ()
    assert ObjectStore(str(root)).rounds("default")
    _, alive = psutil.wait_procs([psutil.Process(p) for p in functions if psutil.pid_exists(p)], timeout=30)
    assert not alive, "functions outlived the process that they belonged to"


def test_what_is_not_durable_yet_travels_with_the_request(open_store: Any) -> None:
    """A request right after an ingest does not wait for, or miss, what is still being written."""
    store = open_store(functions=1, policy="lru")  # nothing is pushed on ingest: all of it is a miss
    for r in range(1, 20):
        store.ingest(r, make_round(r))
        assert store.request("clustering", round=r, k=2).record.misses == CLIENTS


def test_a_lost_object_is_named(open_store: Any, tmp_path: Path) -> None:
    from flstore.errors import UpdateNotFoundError

    store = open_store(functions=1, policy="lru")
    store.ingest(1, make_round(1))
    store.flush()
    next((tmp_path / "root").rglob("*client=c3*")).unlink()
    with pytest.raises(UpdateNotFoundError, match="client 'c3' in round 1"):
        store.request("clustering", round=1, k=2)
    assert store.requests.iloc[-1]["status"] == "failed"


def test_a_torn_object_is_named(open_store: Any, tmp_path: Path) -> None:
    from flstore.errors import CorruptObjectError

    store = open_store(functions=1, policy="lru")
    store.ingest(1, make_round(1))
    store.flush()
    path = next((tmp_path / "root").rglob("*client=c3*"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptObjectError, match="c3"):
        store.request("clustering", round=1, k=2)
