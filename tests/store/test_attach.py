"""Readers: other processes that ask the writer's functions, and go on without them."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from flstore import FLStore
from flstore.errors import ClusterError, ReaderError, UpdateNotFoundError
from flstore.testing.faulty_fs import Fault, FaultPlan
from flstore.types import FunctionJoined, FunctionLost, Kind, Requested
from tests.store.conftest import CLIENTS, fill, make_round
from tests.store.other import FILL, Other, OtherError, opened
from tests.store.test_hangs import holder_of, hung, wait_until
from tests.store.test_requests import REQUESTS, assert_same

ATTACH = "from flstore import FLStore\nreader = FLStore.attach({!r})"


@pytest.fixture
def attach() -> Any:
    readers: list[Any] = []

    def open(root: str, **options: Any) -> Any:
        readers.append(FLStore.attach(root, **options))
        return readers[-1]

    yield open
    for reader in readers:
        reader.close()


def updates_held(store: FLStore) -> set[int]:
    """Rounds of which the functions hold updates."""
    return {k.round for keys in store.inventory().values() for k in keys if k.kind is Kind.UPDATE}


def test_a_reader_answers_as_the_writer_does(shared: FLStore, attach: Any) -> None:
    shared.flush()
    reader = attach(shared.root)
    assert (reader.rounds(), reader.clients(), reader.clients(2)) == (
        shared.rounds(),
        shared.clients(),
        shared.clients(2),
    )
    for workload, params in REQUESTS:
        mine, theirs = reader.request(workload, **params), shared.request(workload, **params)
        assert_same(mine.value, theirs.value)
        assert {f.split("-")[0] for f in mine.record.functions} == {"function"}
    assert (reader.update(2, "c1")["w"] == shared.update(2, "c1")["w"]).all()
    assert (reader.aggregate(2)["w"] == shared.aggregate(2)["w"]).all()
    assert reader.metadata(2).equals(shared.metadata(2))
    assert len(reader.requests) == len(REQUESTS)
    assert [f.name for f in reader.status().functions] == [f.name for f in shared.status().functions]
    assert reader.status().functions == shared.status().functions
    assert "function-0" in repr(reader)
    # The one that holds the round, and nothing had to be fetched.
    held = reader.request("clustering", round=3, k=2).record
    assert (held.hits, held.misses, held.bytes_moved) == (CLIENTS + 1, 0, 0)
    joined = [e for e in shared.log if isinstance(e.event, FunctionJoined | FunctionLost)]
    assert len(joined) == len(shared.status().functions), "no function was renewed or lost"


def test_a_reader_elsewhere_makes_the_writer_prefetch(open_store: Any) -> None:
    store = open_store(ping_deadline_s=0.3)
    fill(store, range(1, 3))
    store.flush()
    with Other() as other:
        other.do(ATTACH.format(store.root))
        ask = "answer = reader.request('clustering', round={}, k=2).value.labels.tolist()"
        assert other.do(ask.format(1)) == store.request("clustering", round=1, k=2).value.labels.tolist()
        before = len(store.requests)

        def heard() -> list[Requested]:
            return [e.event for e in store.log if isinstance(e.event, Requested) and e.event.request < 0]

        wait_until(lambda: len(heard()) == 1)
        assert (heard()[0].workload, heard()[0].round) == ("clustering", 1)
        store.ingest(3, make_round(3))
        store.flush()
        assert updates_held(store) >= {2, 3}
        # The reader had not seen the round; it is told of it.
        assert other.do("answer = reader.rounds()") == [1, 2, 3]
        assert other.do(ask.format(3)) == store.request("clustering", round=3, k=2).value.labels.tolist()
        assert other.do("answer = reader.requests[['hits', 'misses']].values.tolist()[-1]") == [CLIENTS + 1, 0]
        assert len(store.requests) == before + 1, "its requests are in its own tracker"


def test_only_the_readers_request_arms_the_policy(open_store: Any, attach: Any) -> None:
    store = open_store(ping_deadline_s=0.3)
    fill(store, range(1, 3))
    store.flush()
    assert updates_held(store) == set()
    attach(store.root).request("clustering", round=2, k=2)
    wait_until(lambda: updates_held(store) == {2})
    store.ingest(3, make_round(3))
    store.flush()
    assert updates_held(store) == {2, 3}


def test_the_writer_is_killed_and_another_one_comes(tmp_path: Path, open_store: Any, attach: Any) -> None:
    root = str(tmp_path / "root")
    with Other() as other:
        other.do(opened(root))
        other.do(FILL.format(1, 3) + "\nstore.flush()")
        reader = attach(root)
        expected = reader.request("clustering", round=2, k=2)
        assert expected.record.functions == ["function-0"]
        other.kill()
    with pytest.warns(RuntimeWarning, match="answered in this process") as seen:
        alone = reader.request("clustering", round=2, k=2)
    assert Path(seen[0].filename).name == "test_attach.py"
    assert alone.record.functions[-1] == "reader"
    assert_same(alone.value, expected.value)
    assert reader.request("hyperparameters").record.functions == ["reader"], "said once only"
    store = open_store(root=root)
    fill(store, range(3, 4))
    store.flush()
    assert reader.request("clustering", round=3, k=2).record.functions == ["function-0"]
    assert reader.rounds() == [1, 2, 3]
    store.close()
    assert reader.request("clustering", round=3, k=2).record.functions == ["reader"]


def test_a_writer_that_closes_while_a_reader_asks(open_store: Any, attach: Any) -> None:
    store = open_store()
    fill(store, range(1, 3))
    store.flush()
    reader = attach(store.root)
    closed = threading.Event()
    answers: list[Any] = []

    def ask() -> None:
        while not (closed.is_set() and answers[-1].record.functions == ["reader"]):
            answers.append(reader.request("clustering", round=2, k=2))

    asking = threading.Thread(target=ask)

    def close_meanwhile() -> None:
        asking.start()
        wait_until(lambda: len(answers) > 3)
        store.close()
        closed.set()
        asking.join(60)

    with pytest.warns(RuntimeWarning, match="answered in this process"):
        close_meanwhile()
    assert not asking.is_alive()
    for answer in answers:
        assert_same(answer.value, answers[0].value)


def test_what_is_not_durable_yet(tmp_path: Path, open_store: Any, attach: Any) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    root = {"root": plan.url(tmp_path / "root"), "storage_options": plan.storage_options}
    store = open_store(ping_deadline_s=0.3, **root)
    fill(store, range(1, 3))
    store.flush()
    reader = attach(**root)
    reader.request("clustering", round=2, k=2)
    with plan.stage(Fault("stall", "write", match="*round=00000003*client=c[1-4]*")):
        store.ingest(3, make_round(3))
        wait_until(
            lambda: any(k.round == 3 for keys in store.inventory().values() for k in keys if k.kind is Kind.UPDATE)
        )
        assert reader.rounds() == [1, 2, 3]
        assert reader.clients(3) == store.clients(3), "the functions hold it"
        assert (reader.update(3, "c1")["w"] == make_round(3)["c1"]["w"]).all()
        mine = reader.request("malicious_filtering", round=3)
        assert_same(mine.value, store.request("malicious_filtering", round=3).value)
    store.flush()


def test_what_is_neither_durable_nor_held(tmp_path: Path, open_store: Any, attach: Any) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    root = {"root": plan.url(tmp_path / "root"), "storage_options": plan.storage_options}
    store = open_store(ping_deadline_s=0.3, policy="p4", **root)
    reader = attach(**root)
    reader.rounds()
    with plan.stage(Fault("stall", "write", match="*round=00000003*client=c[1-4]*")):
        receipt = store.ingest(3, make_round(3))
        receipt._writes[0].result(20)  # c0 is stored, the rest is not
        assert reader.rounds() == [3]
        for ask in ({"workload": "cosine_similarity", "round": 3}, {"workload": "lineage", "client": "c2"}):
            with pytest.raises(UpdateNotFoundError, match=r"not durable yet|neither durable yet"):
                reader.request(**ask)
        with pytest.raises(UpdateNotFoundError, match="c2"):
            reader.update(3, "c2")
        assert (reader.update(3, "c0")["w"] == make_round(3)["c0"]["w"]).all()
    store.flush()
    assert len(reader.request("clustering", round=3, k=2).value.clients) == CLIENTS


def test_a_round_is_never_seen_in_part(tmp_path: Path, open_store: Any, attach: Any) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    root = {"root": plan.url(tmp_path / "root"), "storage_options": plan.storage_options}
    plan.add(Fault("stall", "write", delay_s=0.05, match="*client=c[2-4]*"))
    store = open_store(ping_deadline_s=4, policy="p4", **root)
    reader = attach(**root)
    assert reader.rounds() == [], "and the writer has heard of it"

    def train() -> None:
        for r in range(1, 21):
            store.ingest(r, make_round(r)).wait()

    with ThreadPoolExecutor(1) as training:
        done = training.submit(train)
        seen = []
        while not done.done() or not seen:
            newest = max(reader.rounds(), default=0)
            for round in (newest, newest + 1):
                with contextlib.suppress(UpdateNotFoundError):  # not there, or some of it is not durable yet
                    seen.append(len(reader.request("cosine_similarity", round=round).value.clients))
    done.result()
    assert set(seen) == {CLIENTS}


def test_a_function_is_killed_while_readers_ask(open_store: Any, attach: Any) -> None:
    store = open_store(functions=2, ping_deadline_s=0.5)
    fill(store, range(1, 4))
    expected = store.request("clustering", round=2, k=2)
    store.flush()
    reader = attach(store.root)
    assert reader.request("clustering", round=2, k=2).record.functions == [holder_of(store, 2)]
    (function,) = [f for f in store._pool.functions.values() if f.name == holder_of(store, 2)]
    psutil.Process(function.pid).kill()
    found = reader.request("clustering", round=2, k=2)
    assert found.record.functions[-1].startswith("function-")
    assert_same(found.value, expected.value)


def test_a_hung_function_is_routed_around_by_readers_too(open_store: Any, attach: Any) -> None:
    store = open_store(functions=2, ping_deadline_s=1)
    fill(store, range(1, 4))
    expected = store.request("clustering", round=2, k=2)
    store.flush()
    reader = attach(store.root)
    name = holder_of(store, 2)
    with hung(store, name):
        found = reader.request("clustering", round=2, k=2)
        assert found.record.functions[-1] == ({"function-0", "function-1"} - {name}).pop()
    assert_same(found.value, expected.value)


def test_a_reader_takes_nothing_in(shared: FLStore, attach: Any) -> None:
    reader = attach(shared.root)
    for forbidden in (
        lambda: reader.ingest(9, make_round(9)), lambda: reader.observe(None), lambda: reader.delete(1),
        lambda: reader.add_feeder(None),
    ):  # fmt: skip
        with pytest.raises(ReaderError, match="this store only asks"):
            forbidden()


def test_a_reader_writes_nothing(tmp_path: Path, attach: Any) -> None:
    root = tmp_path / "root"
    reader = attach(str(root))
    assert reader.rounds() == []
    with pytest.raises(UpdateNotFoundError, match="nothing has been ingested yet"):
        reader.request("clustering", round=1)
    assert not root.exists()


def test_memory_is_read_in_the_process_that_has_it(tmp_path: Path, open_store: Any, attach: Any) -> None:
    store = open_store(root=f"memory://{tmp_path.name}")
    fill(store, range(1, 3))
    store.flush()
    found = attach(store.root).request("clustering", round=2, k=2)
    assert found.record.functions == ["function-0"]
    assert_same(found.value, store.request("clustering", round=2, k=2).value)


def test_a_connection_file_that_is_named(open_store: Any, attach: Any, tmp_path: Path) -> None:
    store = open_store()
    fill(store, range(1, 2))
    store.flush()
    copied = tmp_path / "copied.json"
    copied.write_bytes(store._writing._file.read_bytes())
    copied.chmod(0o600)
    assert attach(store.root, connection=copied).request("clustering", round=1, k=2).record.functions == ["function-0"]
    with pytest.raises(ClusterError, match="there is no connection file"):
        attach(store.root, connection=tmp_path / "absent.json")
    with Other() as other, pytest.raises(OtherError, match="only asks"):
        other.do(ATTACH.format(store.root) + "\nreader.ingest(2, {})")
