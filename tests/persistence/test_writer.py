"""Background writes: what is accepted becomes durable or is reported, and never takes more than its memory."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from flstore.codec import decode
from flstore.errors import InvalidParameterError, InvalidUpdateError, StoreClosedError, StoreError, UpdateExistsError
from flstore.persistence import ObjectStore, Writer
from flstore.types import Key

SOON_S = 20.0


class GatedStore(ObjectStore):
    """A real store whose writes wait for a gate, and count their tries."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.gate, self.entered = threading.Event(), threading.Event()
        self.tries = 0

    def put(self, key: Key, data: Any) -> bool:
        self.tries += 1
        self.gate.wait(SOON_S)
        return super().put(key, data)

    def put_metadata(self, *args: Any, **kwargs: Any) -> None:
        self.tries += 1
        self.entered.set()
        self.gate.wait(SOON_S)
        super().put_metadata(*args, **kwargs)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[GatedStore]:
    """A store that writes nothing until its gate is set."""
    store = GatedStore(tmp_path / "store")
    yield store
    store.gate.set()


@pytest.fixture
def blocked(tmp_path: Path) -> Path:
    """A root on which writes fail until :func:`unblock`."""
    (tmp_path / "file").write_text("in the way")
    return tmp_path / "file" / "x"


def unblock(root: Path) -> None:
    root.parent.unlink()


def test_everything_submitted_is_stored(objects: ObjectStore, an_update: Any) -> None:
    with Writer(objects, write_buffer=10_000) as writer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        futures = [writer.submit(*an_update(client=str(i), fill=i)) for i in range(30)]
        writer.flush()
        assert all(future.done() for future in futures)
        assert (writer.pending_bytes, writer.pending(an_update(client="0")[0])) == (0, None)
    assert [future.result() for future in futures] == [True] * 30
    for i in range(30):
        key, data = an_update(client=str(i), fill=i)
        assert decode(objects.get(key), key=key) == decode(data)


def test_pending_until_durable(gated: GatedStore, an_update: Any) -> None:
    key, data = an_update()
    with Writer(gated, write_buffer=10_000) as writer:
        future = writer.submit(key, data)
        assert (writer.pending(key), writer.pending_bytes) == (data, len(data))
        assert not gated.exists(key)
        assert writer.submit(key, data) is future
        with pytest.raises(UpdateExistsError, match="is being written"):
            writer.submit(*an_update(fill=2.0))
        with pytest.raises(StoreError, match=r"1 updates .* not stored after 0 s"):
            writer.flush(timeout=0)
        gated.gate.set()
        assert future.result(SOON_S) is True
        writer.flush()
        assert (writer.pending(key), writer.pending_bytes) == (None, 0)
        assert writer.submit(key, data).result(SOON_S) is False


def test_a_full_buffer_blocks_and_says_so_once(gated: GatedStore, an_update: Any) -> None:
    size = len(an_update()[1])
    with Writer(gated, write_buffer=2 * size) as writer:
        for client in "ab":
            writer.submit(*an_update(client=client))
        entered, left = threading.Event(), threading.Event()

        def two_more() -> None:
            entered.set()
            for client in "cd":
                writer.submit(*an_update(client=client))
            left.set()

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            thread = threading.Thread(target=two_more)
            thread.start()
            assert entered.wait(SOON_S)
            assert not left.wait(0.1)
            assert writer.pending_bytes == 2 * size
            gated.gate.set()
            assert left.wait(SOON_S)
            thread.join()
        assert [str(w.message)[:16] for w in caught if "write buffer" in str(w.message)] == ["the write buffer"]
    assert sorted(gated.clients("job", 3)) == ["a", "b", "c", "d"]


def test_one_update_larger_than_the_buffer(objects: ObjectStore, an_update: Any) -> None:
    with Writer(objects, write_buffer=1) as writer:
        assert writer.submit(*an_update()).result(SOON_S) is True


def test_a_conflict_is_final(gated: GatedStore, an_update: Any) -> None:
    gated.gate.set()
    gated.put(*an_update(fill=1.0))
    gated.tries = 0
    key, other = an_update(fill=2.0)
    with Writer(gated, write_buffer=10_000, backoff_s=0.001) as writer:
        assert isinstance(writer.submit(key, other).exception(SOON_S), UpdateExistsError)
        writer.flush()
        assert (writer.pending(key), writer.pending_bytes, gated.tries) == (None, 0, 1)


def test_failed_writes_are_kept_told_once_and_can_be_tried_again(blocked: Path, an_update: Any) -> None:
    store = GatedStore(blocked)
    store.gate.set()
    key, data = an_update()
    writer = Writer(store, write_buffer=100_000, attempts=3, backoff_s=0.001)
    error = writer.submit(key, data).exception(SOON_S)
    assert isinstance(error, StoreError)
    assert store.tries == 3
    assert writer.pending(key) == data
    with pytest.raises(StoreError, match=r"1 writes failed and are kept .* NotADirectoryError"):
        writer.submit(*an_update(client="8"))
    # Told; so the next one is accepted, and fails too.
    second = writer.submit(*an_update(client="9"))
    assert isinstance(second.exception(SOON_S), StoreError)
    for call in (writer.raise_failed, writer.raise_failed, writer.flush):
        with pytest.raises(StoreError, match="2 writes failed"):
            call()
    unblock(blocked)
    assert [future.result(SOON_S) for future in writer.retry_failed()] == [True, True]
    writer.flush()
    writer.raise_failed()
    assert (writer.pending_bytes, sorted(store.clients("job", 3))) == (0, ["7", "9"])
    writer.close()


def test_a_buffer_full_of_failures_does_not_block_for_ever(blocked: Path, an_update: Any) -> None:
    key, data = an_update()
    writer = Writer(ObjectStore(blocked), write_buffer=len(data), attempts=1)
    assert isinstance(writer.submit(key, data).exception(SOON_S), StoreError)
    for _ in range(2):
        with pytest.raises(StoreError, match="1 writes failed"):
            writer.submit(*an_update(client="8"))
    with pytest.raises(StoreError, match="1 writes failed"):
        writer.close()
    assert writer.pending(key) == data


def test_a_write_that_fails_at_first_is_tried_again(blocked: Path, an_update: Any) -> None:
    class Heals(GatedStore):
        def put(self, key: Key, data: Any) -> bool:
            if self.tries == 2:
                unblock(blocked)
            return super().put(key, data)

    store = Heals(blocked)
    store.gate.set()
    with Writer(store, write_buffer=10_000, backoff_s=0.001) as writer:
        assert writer.submit(*an_update()).result(SOON_S) is True
    assert store.tries == 3


def test_metadata_goes_together_and_in_order(gated: GatedStore) -> None:
    with Writer(gated, write_buffer=10_000) as writer:
        futures: list[Future[None]] = []
        for i in range(50):
            row = {"last": i}
            futures.append(writer.submit_metadata("job", 1, {"shared": row, str(i): row}, {"step": i}))
            row["last"] = -1
            assert gated.entered.wait(SOON_S)
        futures.append(writer.submit_metadata("job", 2, {"x": {}}))
        assert not any(future.done() for future in futures)
        gated.gate.set()
        assert [future.result(SOON_S) for future in futures] == [None] * 51
        writer.flush()
    rows, server = gated.get_metadata("job", 1)
    assert rows == {"shared": {"last": 49}} | {str(i): {"last": i} for i in range(50)}
    assert server == {"step": 49}
    # The first alone, the 49 that came meanwhile, and round 2.
    assert gated.tries == 3
    assert gated.get_metadata("job", 2) == ({"x": {}}, {})


def test_failed_metadata_is_kept_below_what_comes_later(blocked: Path) -> None:
    writer = Writer(ObjectStore(blocked), write_buffer=10_000, attempts=1)
    assert isinstance(writer.submit_metadata("job", 1, {"a": {"x": 1, "y": 1}}).exception(SOON_S), StoreError)
    with pytest.raises(StoreError, match="1 writes failed"):
        writer.flush()
    unblock(blocked)
    writer.submit_metadata("job", 1, {"a": {"x": 2}}).result(SOON_S)
    writer.close()
    assert ObjectStore(blocked).get_metadata("job", 1) == ({"a": {"x": 2, "y": 1}}, {})


def test_failed_metadata_can_be_tried_again(blocked: Path) -> None:
    writer = Writer(ObjectStore(blocked), write_buffer=10_000, attempts=1)
    writer.submit_metadata("job", 1, {"a": {"x": 1}}).exception(SOON_S)
    unblock(blocked)
    assert [future.result(SOON_S) for future in writer.retry_failed()] == [None]
    writer.close()
    assert ObjectStore(blocked).get_metadata("job", 1) == ({"a": {"x": 1}}, {})


def test_metadata_is_checked_where_it_is_given(objects: ObjectStore) -> None:
    with Writer(objects, write_buffer=10_000) as writer, pytest.raises(InvalidUpdateError, match="field 'x': set"):
        writer.submit_metadata("job", 1, {"a": {"x": {1}}})


def test_a_callback_may_use_the_writer(objects: ObjectStore, an_update: Any) -> None:
    with Writer(objects, write_buffer=10_000) as writer:
        seen: list[int] = []
        done = threading.Event()

        def look(_: Future[bool]) -> None:
            seen.append(writer.pending_bytes)
            done.set()

        writer.submit(*an_update()).add_done_callback(look)
        assert done.wait(SOON_S)
        assert seen == [0]


def test_a_closed_writer_accepts_nothing(objects: ObjectStore, an_update: Any) -> None:
    writer = Writer(objects, write_buffer=10_000)
    writer.submit(*an_update())
    writer.close()
    writer.close()
    assert list(objects.clients("job", 3)) == ["7"]
    for call in (lambda: writer.submit(*an_update()), lambda: writer.submit_metadata("job", 1, {})):
        with pytest.raises(StoreClosedError):
            call()


@pytest.mark.parametrize("wrong", [{"write_buffer": 0}, {"write_buffer": 1, "threads": 0}])
def test_parameters(objects: ObjectStore, wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidParameterError, match="at least 1"):
        Writer(objects, **wrong)
