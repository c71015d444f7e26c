import contextlib
import gc
import subprocess
import sys
import threading
import time
import warnings
import weakref

import numpy as np
import pytest

from flstore.errors import InvalidParameterError, InvalidUpdateError, StoreClosedError, StoreError
from flstore.federated.feeder import Feeder, Parcel


def parcel(round: int, size_bytes: int = 10) -> Parcel:
    return Parcel(round, size_bytes, {"a": lambda: {"w": np.full(2, round)}})


def rounds(store) -> list[int]:
    return [call["round"] for call in store.calls]


def test_parcels_arrive_in_order_and_whole_on_another_thread(recording_store):
    feeder = Feeder(recording_store)
    for r in range(20):
        feeder.submit(Parcel(r, 1, {"a": lambda r=r: {"w": r}}, lambda r=r: {"w": -r}, {"a": {"lr": r}}))
    feeder.flush()
    assert recording_store.calls == [
        {"round": r, "updates": {"a": {"w": r}}, "aggregate": {"w": -r}, "metadata": {"a": {"lr": r}}}
        for r in range(20)
    ]
    assert recording_store.threads == {"flstore-feeder"}
    assert feeder.pending_bytes == 0
    assert "flstore-feeder" not in {t.name for t in threading.enumerate()}


def test_nothing_is_ingested_for_an_empty_parcel(recording_store):
    feeder = Feeder(recording_store)
    feeder.submit(Parcel(1))
    feeder.flush()
    assert recording_store.calls == []


def test_a_full_buffer_waits_and_says_so_once(recording_store):
    feeder = Feeder(recording_store, buffer_bytes=25)
    recording_store.may_go_on.clear()
    feeder.submit(parcel(0))
    feeder.submit(parcel(1))
    assert feeder.pending_bytes == 20

    def training() -> None:
        for r in range(2, 6):
            feeder.submit(parcel(r))

    def watched() -> None:
        thread = threading.Thread(target=training)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert feeder.pending_bytes == 20
        recording_store.may_go_on.set()
        thread.join(30)
        feeder.flush()

    with pytest.warns(RuntimeWarning, match=r"Training waits for the store: 0\.0 MB") as seen:
        watched()
    assert len(seen) == 1
    assert rounds(recording_store) == list(range(6))


def test_a_parcel_beyond_the_buffer_passes_when_nothing_waits(recording_store):
    feeder = Feeder(recording_store, buffer_bytes=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feeder.submit(parcel(1, size_bytes=1000))
    feeder.flush()
    assert rounds(recording_store) == [1]


def test_failures_are_warned_of_once_a_round_and_raised_by_flush(recording_store):
    error = OSError("disk full")
    recording_store.fails = lambda r: error if r == 1 else ValueError("odd") if r == 2 else None
    feeder = Feeder(recording_store)

    def submit_all() -> BaseException:
        for r in (0, 1, 1, 2, 3):
            feeder.submit(parcel(r))
        with pytest.raises(OSError, match="disk full") as raised:
            feeder.flush()
        return raised.value

    with pytest.warns(RuntimeWarning, match=r"Not all of round \d was recorded") as seen:
        raised = submit_all()
    assert raised is error
    assert error.__notes__ == ["also, round 1: OSError: disk full", "also, round 2: ValueError: odd"]
    assert len(seen) == 2
    assert rounds(recording_store) == [0, 3]
    feeder.flush()  # raised once


def test_warnings_as_errors_do_not_reach_training(recording_store):
    recording_store.fails = lambda r: OSError("disk full")
    feeder = Feeder(recording_store)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        feeder.submit(parcel(1))
        feeder.submit(parcel(2))
        with pytest.raises(OSError, match="disk full"):
            feeder.flush()


@pytest.mark.filterwarnings("ignore:Not all of round")
def test_a_failure_does_not_hold_the_tensors(recording_store):
    class Tensor(np.ndarray):
        pass

    tensor = np.zeros(3).view(Tensor)
    alive = weakref.ref(tensor)

    def ingest(round, updates, **rest):
        kept = updates  # a frame that would keep them
        raise OSError(f"{len(kept)} not stored")

    recording_store.ingest = ingest
    feeder = Feeder(recording_store)
    feeder.submit(Parcel(1, 24, {"a": lambda t=tensor: {"w": t}}))
    del tensor
    while feeder.pending_bytes:
        pass
    gc.collect()
    assert alive() is None
    with pytest.raises(OSError, match="1 not stored"):
        feeder.flush()


@pytest.mark.filterwarnings("ignore:Not all of round")
def test_one_malformed_update_does_not_cost_the_round(recording_store):
    def broken():
        raise ValueError("torn")

    feeder = Feeder(recording_store)
    feeder.submit(Parcel(3, 10, {"bad": broken, "good": lambda: {"w": 1}}, metadata={"bad": {"lr": 1}}))
    with pytest.raises(ValueError, match="torn"):
        feeder.flush()
    assert recording_store.updates(3) == {"good": {"w": 1}}
    assert recording_store.metadata(3) == {"bad": {"lr": 1, "error": "ValueError: torn"}}


def test_flush_can_stop_waiting(recording_store):
    recording_store.may_go_on.clear()
    feeder = Feeder(recording_store)
    feeder.submit(parcel(1))
    with pytest.raises(TimeoutError, match=r"not yet ingested after 0\.01 s"):
        feeder.flush(timeout_s=0.01)
    recording_store.may_go_on.set()
    feeder.flush()
    assert rounds(recording_store) == [1]


def test_flush_does_not_wait_for_what_comes_after_it(recording_store):
    """Training goes on while somebody flushes."""
    feeder = Feeder(recording_store)
    recording_store.may_go_on.clear()
    feeder.submit(parcel(1))
    held, ingest = threading.Event(), recording_store.ingest

    def hold_the_second(round, *args, **kwargs):
        if round == 2:
            assert held.wait(30)
        ingest(round, *args, **kwargs)

    recording_store.ingest = hold_the_second
    flushing = threading.Thread(target=feeder.flush)
    flushing.start()
    while not feeder._changed._waiters:  # until flush waits
        pass
    feeder.submit(parcel(2))
    recording_store.may_go_on.set()
    flushing.join(30)
    assert not flushing.is_alive()
    assert rounds(recording_store) == [1]
    held.set()
    feeder.close()
    assert rounds(recording_store) == [1, 2]


@pytest.mark.filterwarnings("ignore:Not all of round")
def test_what_was_lost_is_listed_for_good(recording_store):
    def broken():
        raise ValueError("torn")

    recording_store.fails = lambda r: OSError("disk full") if r == 2 else None
    feeder = Feeder(recording_store)
    feeder.submit(Parcel(1, 10, {"bad": broken, "good": lambda: {"w": 1}}))
    feeder.submit(Parcel(2, 10, {"a": lambda: {"w": 1}}, lambda: {"w": 2}, {"a": {"lr": 1}}))
    for _ in range(2):
        with contextlib.suppress(ValueError):
            feeder.flush()
    assert [(lost.round, lost.client, lost.kind) for lost in feeder.lost] == [
        (1, "bad", "update"), (2, "a", "update"), (2, None, "aggregate"), (2, "a", "metadata"),
    ]  # fmt: skip
    assert [lost.reason for lost in feeder.lost] == ["ValueError: torn"] + 3 * ["OSError: disk full"]


def wait_until(done) -> None:
    deadline = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline


@pytest.mark.filterwarnings("ignore:Not all of round")
def test_a_store_that_fails_gets_all_once_it_works(recording_store):
    """It is asked to try again once a round; what it did not take is held meanwhile, and listed."""
    retried: list[int] = []
    recording_store.fails = lambda r: StoreError("unreachable") if len(retried) < 2 else None
    recording_store.retry_writes = lambda: retried.append(1)
    feeder = Feeder(recording_store)
    for held in (1, 2):
        feeder.submit(parcel(1))
        wait_until(lambda n=held: len(feeder.held) == n)
    assert [(lost.round, lost.client) for lost in feeder.held] == [(1, "a"), (1, "a")]
    assert len(retried) == 1
    assert feeder.pending_bytes == 20
    feeder.submit(parcel(2))
    wait_until(lambda: feeder.pending_bytes == 0)
    assert rounds(recording_store) == [2, 1, 1]
    assert feeder.held == feeder.lost == []
    feeder.flush()


@pytest.mark.filterwarnings("ignore:Not all of round")
def test_flush_tries_what_is_held_and_closing_lets_go_of_it(recording_store):
    works: list[int] = []
    recording_store.fails = lambda r: None if works else StoreError("unreachable")
    feeder = Feeder(recording_store)
    for r in (1, 2):
        feeder.submit(parcel(r))
    with pytest.raises(StoreError, match="unreachable"):
        feeder.flush()
    with pytest.raises(StoreError, match="unreachable"):
        feeder.flush()
    assert sorted(lost.round for lost in feeder.held) == [1, 2]
    works.append(1)
    feeder.flush()
    assert sorted(rounds(recording_store)) == [1, 2]
    works.clear()
    feeder.submit(parcel(3))
    with pytest.raises(StoreError, match="unreachable"):
        feeder.close()
    assert feeder.held == []
    assert [lost.round for lost in feeder.lost] == [3]
    assert feeder.pending_bytes == 0


def test_training_does_not_wait_for_a_store_that_fails(recording_store):
    """Without room the oldest of what is held is lost, and listed."""
    recording_store.fails = lambda r: StoreError("unreachable")
    feeder = Feeder(recording_store, buffer_bytes=25)

    def train() -> None:
        for r in range(1, 6):
            feeder.submit(parcel(r))
            wait_until(lambda r=r: any(lost.round == r for lost in feeder.held))

    with pytest.warns(RuntimeWarning, match="Not all of round") as seen:
        train()
    assert not [w for w in seen if "Training waits" in str(w.message)]
    assert [lost.round for lost in feeder.held] == [4, 5]
    assert [lost.round for lost in feeder.lost] == [1, 2, 3]
    recording_store.fails = lambda r: None
    with pytest.raises(StoreError, match="unreachable") as raised:
        feeder.flush()
    assert len(raised.value.__notes__) == 2
    assert rounds(recording_store) == [4, 5]


@pytest.mark.filterwarnings("ignore:Not all of round")
def test_most_clients_decide_what_fits(recording_store):
    """A store refuses what differs from the first update of a round, and the odd one came first."""
    kept: dict[str, tuple[int, ...]] = {}

    def ingest(round, updates, aggregate=None, metadata=None):
        shapes = {*kept.values(), *(u["w"].shape for u in updates.values())}
        if len(shapes) > 1:
            raise InvalidUpdateError("a round has one architecture")
        kept.update({c: u["w"].shape for c, u in updates.items()})

    recording_store.ingest = ingest
    feeder = Feeder(recording_store)
    sizes = {"odd": 1, "a": 2, "b": 2}
    feeder.submit(Parcel(1, 10, {c: lambda n=n: {"w": np.zeros(n)} for c, n in sizes.items()}))
    with pytest.raises(InvalidUpdateError):
        feeder.flush()
    assert sorted(kept) == ["a", "b"]
    assert [lost.client for lost in feeder.lost] == ["odd"]


def test_closing_finishes_and_takes_nothing_more(recording_store):
    recording_store.may_go_on.clear()
    feeder = Feeder(recording_store)
    feeder.submit(parcel(1))
    threading.Timer(0.05, recording_store.may_go_on.set).start()
    feeder.close()
    assert rounds(recording_store) == [1]
    with pytest.warns(RuntimeWarning, match="round 2 came after the store was closed"):
        feeder.submit(parcel(2))
    with pytest.raises(StoreClosedError, match="round 2"):
        feeder.close()
    assert rounds(recording_store) == [1]
    assert [(lost.round, lost.client) for lost in feeder.lost] == [(2, "a")]
    assert "closed" in repr(feeder)


@pytest.mark.filterwarnings("ignore:Training waits", "ignore:Not all of round")
def test_closing_lets_go_of_a_training_that_waits_for_room(recording_store):
    recording_store.may_go_on.clear()
    feeder = Feeder(recording_store, buffer_bytes=15)
    feeder.submit(parcel(1))
    training = threading.Thread(target=feeder.submit, args=(parcel(2),))
    training.start()
    while not feeder._changed._waiters:  # until it waits
        pass
    raised: list[BaseException] = []

    def close() -> None:
        try:
            feeder.close()
        except StoreClosedError as error:
            raised.append(error)

    closing = threading.Thread(target=close)
    closing.start()
    training.join(30)  # although nothing of round 1 is ingested yet
    assert not training.is_alive()
    recording_store.may_go_on.set()
    closing.join(30)
    assert "round 2 came after the store was closed" in str(raised[0])
    assert rounds(recording_store) == [1]


def test_a_script_that_ends_without_closing_loses_nothing():
    script = (
        "import time\n"
        "from flstore.federated.feeder import Feeder, Parcel\n"
        "class Store:\n"
        "    def ingest(self, round, updates, **rest):\n"
        "        time.sleep(0.05); print(round, flush=True)\n"
        "feeder = Feeder(Store())\n"
        "for r in range(4): feeder.submit(Parcel(r, 1, {'a': lambda: {}}))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0", "1", "2", "3"]


def test_out_of_range(recording_store):
    with pytest.raises(InvalidParameterError, match="buffer_bytes is 0"):
        Feeder(recording_store, buffer_bytes=0)
