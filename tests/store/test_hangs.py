"""Functions that are alive and do not answer (SIGSTOP): suspected, routed around, taken back."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from flstore import FLStore
from flstore.errors import RequestTimeoutError
from flstore.testing import faults
from flstore.types import FunctionJoined, FunctionLost, Kind
from tests.store.conftest import CLIENTS, fill, make_round

DEADLINE_S = 0.3


@contextlib.contextmanager
def hung(store: FLStore, name: str) -> Iterator[None]:
    (function,) = [f for f in store._pool.functions.values() if f.name == name]
    process = psutil.Process(function.pid)
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def holder_of(store: FLStore, round: int) -> str:
    (name,) = {n for n, keys in store.inventory().items() if any(k.kind == 0 and k.round == round for k in keys)}
    return name


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Look until something holds that no event of ours tells."""
    tick = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        tick.wait(0.05)
    raise AssertionError("it never came to hold")


def events(store: FLStore, kind: type) -> list[Any]:
    return [e.event for e in list(store.log) if isinstance(e.event, kind)]


def test_a_hung_function_is_routed_around_and_taken_back(open_store: Any) -> None:
    store = open_store(functions=2, ping_deadline_s=DEADLINE_S)
    fill(store, range(1, 4))
    expected = store.request("clustering", round=2, k=2).value.labels.tolist()
    store.flush()
    name = holder_of(store, 2)
    with hung(store, name):
        answer = store.request("clustering", round=2, k=2)
        assert answer.value.labels.tolist() == expected
        assert answer.record.functions == [name, ({"function-0", "function-1"} - {name}).pop()]
        store.ingest(4, make_round(4))
        store.flush()  # does not wait for the hung one
    wait_until(lambda: not store._pool.silent())
    again = store.request("clustering", round=2, k=2).record
    assert (again.hits, again.functions) == (CLIENTS + 1, [name]), "it kept its data"
    assert not events(store, FunctionLost)


def test_a_function_that_stays_silent_is_given_up_and_may_come_back(open_store: Any) -> None:
    store = open_store(functions=2, ping_deadline_s=DEADLINE_S)
    fill(store, range(1, 4))
    store.request("clustering", round=2, k=2)
    store.flush()
    name = holder_of(store, 2)
    with hung(store, name):
        wait_until(lambda: bool(events(store, FunctionLost)))
        store.flush()  # what it held is loaded elsewhere
        record = store.request("clustering", round=2, k=2).record
        assert (record.misses, record.late_hits) == (0, 0)
        assert name not in record.functions
    wait_until(lambda: len(events(store, FunctionJoined)) == 3)
    store.flush()
    index = {
        store._pool.functions[f].name: sum(len(c) for c in slots.values())
        for f, slots in store._state.holdings().items()
    }
    assert {n: len(keys) for n, keys in store.inventory().items()} == index, "what it still held was adopted or dropped"


def test_what_a_function_still_holds_when_it_comes_back_is_not_loaded_again(open_store: Any) -> None:
    store = open_store(functions=1, ping_deadline_s=DEADLINE_S)
    fill(store, range(1, 4))
    store.request("clustering", round=3, k=2)
    store.flush()
    before = {name: sorted(keys) for name, keys in store.inventory().items()}
    loads = store._state.generation
    with hung(store, "function-0"):
        wait_until(lambda: bool(events(store, FunctionLost)))
    wait_until(lambda: len(events(store, FunctionJoined)) == 2)
    record = store.request("clustering", round=3, k=2).record
    assert (record.hits, record.misses, record.bytes_moved) == (CLIENTS + 1, 0, 0)
    store.flush()
    updates = [k for keys in before.values() for k in keys if k.kind is not Kind.METADATA]
    assert store._state.generation - loads <= sum(map(len, before.values())) - len(updates)
    assert {name: sorted(keys) for name, keys in store.inventory().items()} == before


def test_with_nobody_else_the_request_waits_for_the_hung_one(open_store: Any) -> None:
    store = open_store(functions=1, ping_deadline_s=DEADLINE_S)
    fill(store, range(1, 3))
    store.request("clustering", round=1, k=2)
    with hung(store, "function-0"):
        waiting = store.submit("clustering", round=1, k=2)
        with pytest.raises(RequestTimeoutError, match=r"within its 0\.6 seconds"):
            store.request("clustering", round=1, k=2, deadline_s=0.6)
        assert not waiting.done()
    assert waiting.result(30).value.k == 2


def test_a_store_with_a_hung_function_closes(open_store: Any) -> None:
    store = open_store(functions=2, ping_deadline_s=DEADLINE_S)
    fill(store, range(1, 4))
    store.request("clustering", round=2, k=2)
    store.flush()
    (pid,) = [f.pid for f in store._pool.functions.values() if f.name == holder_of(store, 2)]
    psutil.Process(pid).send_signal(signal.SIGSTOP)
    store.ingest(4, make_round(4))
    store.close()
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_was_on_its_way_to_a_hung_function_does_not_hold_up_the_store(open_store: Any) -> None:
    store = open_store(functions=2, ping_deadline_s=DEADLINE_S)
    fill(store, range(1, 3))
    store.request("clustering", round=1, k=2)
    store.flush()
    name = holder_of(store, 2)
    with hung(store, name):
        fill(store, range(3, 7))  # some of it is loaded into the hung one
        wait_until(lambda: bool(events(store, FunctionLost)))
        store.flush()  # given up, it is no longer among the silent; what was sent to it is given up too
        assert store.request("clustering", round=6, k=2).value.k == 2


def test_a_function_that_hangs_and_then_dies_is_replaced(open_store: Any) -> None:
    store = open_store(functions=1, ping_deadline_s=DEADLINE_S)
    fill(store, range(1, 3))
    store.request("clustering", round=1, k=2)
    store.flush()
    (function,) = store._pool.functions.values()
    process = psutil.Process(function.pid)
    process.send_signal(signal.SIGSTOP)
    waiting = store.submit("clustering", round=1, k=2)
    wait_until(lambda: bool(store._pool.silent()) or bool(events(store, FunctionLost)))
    process.kill()
    assert waiting.result(60).value.k == 2
    assert store.request("clustering", round=2, k=2, deadline_s=60).value.k == 2


def test_metadata_that_changed_while_its_function_hung_is_not_answered_from_there(open_store: Any) -> None:
    store = open_store(functions=2, ping_deadline_s=DEADLINE_S)
    fill(store, range(1, 3))
    store.ingest(2, {}, metadata={"c1": {"accuracy": 0.5}})
    store.flush()
    (name,) = {n for n, keys in store.inventory().items() if any(k.kind == 2 for k in keys)}
    with hung(store, name):
        wait_until(lambda: bool(events(store, FunctionLost)))
        store.ingest(2, {}, metadata={"c1": {"accuracy": 0.7}})
        store.flush()
    wait_until(lambda: len(events(store, FunctionJoined)) == 3)
    store.flush()
    frame = store.request("hyperparameters").value.frame()
    assert frame.loc[(2, "c1"), "accuracy"] == 0.7


def test_what_waits_for_a_hung_function_does_not_take_a_connection_each(open_store: Any) -> None:
    store = open_store(functions=2, replicas=1, policy="lru", policy_options={"fill": "write-allocate"})
    with hung(store, "function-0"):
        fill(store, range(1, 31))
        store.request("hyperparameters", round=30)  # by the other one: what was decided is on its way
        (function,) = [f for f in store._pool.functions.values() if f.name == "function-0"]
        port = int(function.address.rpartition(":")[2])
        taken = [c for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == port]
        assert len(taken) < 30
    store.flush()
    assert {len(keys) for keys in store.inventory().values()} == {30 * (2 * CLIENTS + 1) + 1}


def test_an_interrupt_of_the_process_group_does_not_reach_the_functions(open_store: Any) -> None:
    """As Jupyter's *Interrupt Kernel* sends it: what is in memory stays there."""
    store = open_store(functions=2)
    fill(store, range(1, 3))
    store.request("cosine_similarity", round=2)
    store.flush()
    before = faults.functions(store)
    for pid in before.values():
        os.kill(pid, signal.SIGINT)
    time.sleep(0.5)  # a process that ends needs a moment to do so
    assert store.request("cosine_similarity", round=2).record.misses == 0
    assert faults.functions(store) == before
