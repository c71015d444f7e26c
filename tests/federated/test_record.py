"""A run is recorded once: resumed where it was killed, refused where it is another one, replayed instead of trained."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.baselines import LocalFiles
from flstore.errors import (
    CorruptObjectError,
    InvalidParameterError,
    UpdateNotFoundError,
    WriterExistsError,
)
from flstore.federated import Recording, record, run
from flstore.federated import recorder as module
from flstore.persistence import verify
from tests.display.conftest import Page

TINY: dict[str, Any] = {
    "model": "mobilenet_v3_small",
    "rounds": 3,
    "clients": 12,
    "per_round": 3,
    "max_batches": 1,
    "seed": 5,
}
QUIET = {"progress": False}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A run that nobody interrupted."""
    return record(str(tmp_path_factory.mktemp("whole")), **TINY, **QUIET)


def contents(root: str) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in Path(root).rglob("*.safetensors")}


def no_training(*_: Any, **__: Any) -> None:
    raise AssertionError("it trains again")


def test_a_recording_is_what_a_store_that_observes_the_run_has(whole: Recording, tmp_path: Path) -> None:
    with LocalFiles(str(tmp_path)) as store:
        history = run(**TINY, store=store, progress=False)
    assert contents(whole.root) == contents(str(tmp_path))
    assert len(contents(whole.root)) == 3 * 3 + 4
    assert whole.accuracy == history.accuracy
    frame = whole.frame()
    assert frame["loss"].tolist() == list(history.loss)
    np.testing.assert_array_equal(frame["train_loss"], history.train_loss)
    assert frame["clients"].tolist() == [0, 3, 3, 3]
    assert whole.size_bytes == sum(map(len, contents(whole.root).values()))
    with LocalFiles(whole.root) as store:
        assert store.metadata(2)["duration_s"].gt(0).all()
        assert set(whole.clients) == set(store.clients())


def test_run_json_says_what_decides_the_outcome(whole: Recording) -> None:
    note = json.loads(Path(whole.root, "run.json").read_text())
    assert TINY.items() <= note["arguments"].items()
    assert "lr" in note["arguments"], "defaults are kept too"
    assert not {"store", "strategy", "progress"} & note["arguments"].keys()
    assert {"flstore", "flwr", "torch", "python"} <= note["versions"].keys()
    assert verify(whole.root, progress=False).stray == []


def test_equal_arguments_and_a_complete_run_return_at_once(whole: Recording, monkeypatch: Any) -> None:
    before = {p: p.stat().st_mtime_ns for p in Path(whole.root).rglob("*")}
    monkeypatch.setattr(module, "run", no_training_but_with(module.run))
    again = record(whole.root, **TINY, **QUIET)
    assert again.history == whole.history
    assert {p: p.stat().st_mtime_ns for p in Path(whole.root).rglob("*")} == before


def no_training_but_with(original: Any) -> Any:
    import functools

    return functools.wraps(original)(no_training)  # the signature is read, the function is not called


def test_other_arguments_are_refused_by_name_with_the_way_out(whole: Recording) -> None:
    with pytest.raises(InvalidParameterError, match=r"seed is 5 there, 6 was asked for\. .*another root") as refused:
        record(whole.root, **{**TINY, "seed": 6}, **QUIET)
    assert "rounds" not in str(refused.value)
    with pytest.raises(InvalidParameterError, match=r"rounds is 3 there, 9 .*; lr is 0\.1 there, 0\.2 was"):
        record(whole.root, **{**TINY, "rounds": 9}, lr=0.2, **QUIET)
    with pytest.raises(InvalidParameterError, match="job is 'default' there, 'other' was"):
        record(whole.root, **TINY, **QUIET, job="other")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strategy": None}, "record.. takes no strategy"),
        ({"store": None}, "takes no store"),
        ({"rounds": 0}, "rounds=0 must be at least 1"),
        ({"seed": {1, 2}}, r"seed=\{1, 2\} cannot be recorded"),
        ({"lr": float("nan")}, "lr=nan must be positive"),
    ],
)
def test_what_cannot_be_recorded_is_said_before_anything_is_written(tmp_path: Path, wrong: Any, said: str) -> None:
    with pytest.raises(InvalidParameterError, match=said):
        record(str(tmp_path / "new"), **{**TINY, **wrong}, **QUIET)
    assert not (tmp_path / "new").exists()


def test_rounds_that_were_not_recorded_are_left_alone(tmp_path: Path) -> None:
    with LocalFiles(str(tmp_path)) as store:
        store.ingest(4, {"a": {"w": np.ones(2)}})
    with pytest.raises(InvalidParameterError, match=r"has rounds 4 to 4, but no run\.json.*another root or job"):
        record(str(tmp_path), **TINY, **QUIET)
    with LocalFiles(str(tmp_path)) as store:
        assert store.rounds() == [4]


def test_a_damaged_run_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(CorruptObjectError, match=r"run\.json below .* is no JSON object"):
        record(str(tmp_path), **TINY, **QUIET)
    (tmp_path / "run.json").write_text('{"format": 7}')
    with pytest.raises(CorruptObjectError, match="format 7, this version reads 1"):
        Recording.open(str(tmp_path))
    with pytest.raises(UpdateNotFoundError, match=r"no recording below .*record\(root"):
        Recording.open(str(tmp_path / "none"))


KILLED = """
import os, signal, sys
from flstore.federated import grid, record

answer, count = grid.LocalGrid._reply, 0

def reply(self, message):
    global count
    count += 1
    if count == int(sys.argv[2]):
        print("killed", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(self, message)

grid.LocalGrid._reply = reply
record(sys.argv[1], **eval(sys.argv[3]))
"""


@pytest.mark.parametrize(
    ("at_message", "rounds_done"),
    [pytest.param(8, 2, id="third round"), pytest.param(2, 0, id="first round", marks=pytest.mark.slow)],
)
def test_a_killed_recording_goes_on_to_the_same_result(
    whole: Recording, tmp_path: Path, at_message: int, rounds_done: int
) -> None:
    root = str(tmp_path)
    command = [sys.executable, "-c", KILLED, root, str(at_message), repr({**TINY, **QUIET})]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "killed\n"), killed.stderr
    partial = Recording.open(root)
    assert (len(partial.rounds), partial.complete) == (rounds_done, False)
    with pytest.raises(InvalidParameterError, match=f"only {rounds_done} of 3 rounds .* goes on from there"):
        partial.store()
    # What a kill in the middle of writing leaves of a round: an update that counts for nothing, and a torn one.
    left = tmp_path / "job=default" / f"round={rounds_done + 1:08d}" / "update"
    left.mkdir(parents=True, exist_ok=True)
    (left / "client=7.safetensors").write_bytes(b"another update than it will be")
    (left / f".{'0' * 32}.tmp").write_bytes(b"torn")
    resumed = record(root, **TINY, **QUIET)
    assert resumed.complete
    assert contents(root) == contents(whole.root)
    assert resumed.accuracy == whole.accuracy
    assert [r.clients for r in resumed.history] == [r.clients for r in whole.history]
    assert verify(root, progress=False).temporaries == []


def test_only_the_missing_rounds_are_trained(whole: Recording, tmp_path: Path, monkeypatch: Any) -> None:
    """A run that stops at an error keeps its rounds; the next call trains one round and says so if versions changed."""
    from flstore.federated import grid

    answer, count = grid.LocalGrid._reply, 0

    def reply(self: Any, message: Any) -> Any:
        nonlocal count
        count += 1
        if count == 7:
            raise KeyboardInterrupt
        return answer(self, message)

    monkeypatch.setattr(grid.LocalGrid, "_reply", reply)
    with pytest.raises(KeyboardInterrupt):
        record(str(tmp_path), **TINY, **QUIET)
    note = json.loads((tmp_path / "run.json").read_text())
    note["versions"]["torch"] = "0.1"
    (tmp_path / "run.json").write_text(json.dumps(note))
    with pytest.warns(RuntimeWarning, match=r"begun with torch 0\.1 \(now "):
        resumed = record(str(tmp_path), **TINY, **QUIET)
    assert count == 7 + 3
    assert contents(resumed.root) == contents(whole.root)


def test_two_at_once_are_refused(tmp_path: Path, monkeypatch: Any) -> None:
    from flstore.federated import grid

    answer = grid.LocalGrid._reply
    said = []

    def reply(self: Any, message: Any) -> Any:
        if not said:
            with pytest.raises(WriterExistsError) as refused:
                record(str(tmp_path), **TINY, **QUIET)
            said.append(str(refused.value))
        return answer(self, message)

    monkeypatch.setattr(grid.LocalGrid, "_reply", reply)
    assert record(str(tmp_path), **{**TINY, "rounds": 3}, **QUIET).complete
    assert str(os.getpid()) in said[0]


def test_a_recording_shows_itself(whole: Recording, tmp_path: Path) -> None:
    facts = Page(whole._repr_html_()).facts()
    assert facts["model"] == "mobilenet_v3_small"
    assert facts["rounds"] == "1-3 of 3"
    assert facts["clients"] == f"{len(whole.clients)} took part"
    assert facts["accuracy"].startswith(f"{whole.accuracy[0]:.2f} ")
    shown = repr(whole)
    assert all(f"{label} " in shown and value in shown for label, value in facts.items())
    Path(tmp_path, "run.json").write_text(json.dumps({**whole.note(), "rounds": whole.note()["rounds"][:2]}))
    assert "2 rounds missing: record() again to go on" in repr(Recording.open(str(tmp_path)))


def test_an_argument_that_is_newer_than_the_recording_had_its_default_there(whole: Recording, tmp_path: Path) -> None:
    older = {name: value for name, value in whole.arguments.items() if name != "alpha"}
    Path(tmp_path, "run.json").write_text(json.dumps({**whole.note(), "arguments": older}))
    assert record(str(tmp_path), **TINY, **QUIET).complete
    with pytest.raises(InvalidParameterError, match=r"alpha is 1\.0 there, 0\.5 was"):
        record(str(tmp_path), **TINY, **QUIET, alpha=0.5)
    Path(tmp_path, "run.json").write_text(json.dumps({**whole.note(), "arguments": {**older, "gone": 7}}))
    with pytest.raises(InvalidParameterError, match="gone is 7 there, None was"):
        record(str(tmp_path), **TINY, **QUIET)


def test_replay_hands_over_what_training_would_have(whole: Recording, tmp_path: Path) -> None:
    """In the same order, so that policies see the same: the events of both logs are equal."""
    with FLStore.local(functions=1, memory="256MiB", root=str(tmp_path / "live")) as live:
        run(**TINY, store=live, progress=False)
        live.flush()
        observed = events(live)
    with FLStore.local(functions=1, memory="256MiB", root=str(tmp_path / "replayed")) as store:
        whole.replay(store, **QUIET)
        store.flush()
        assert store.rounds() == [1, 2, 3]
        assert events(store) == observed
        assert contents(store.root) == contents(whole.root)
        assert "train_loss" in store.metadata(1)


def events(store: FLStore) -> list[Any]:
    """What was ingested by kind and round, in order; metadata has times in it, so its sizes differ."""
    found = [entry.event for entry in store.log if type(entry.event).__name__ == "Ingested"]
    return [(e.keys.kind, [r for r, _ in e.keys.pairs()]) for e in found]


def test_a_part_can_be_replayed_and_a_store_opened_over_the_recording(whole: Recording, tmp_path: Path) -> None:
    with LocalFiles(str(tmp_path)) as store:
        whole.replay(store, rounds=[3], **QUIET)
        assert store.rounds() == [3]
        assert store.request("cosine_similarity", round=3).value.of == "delta", "the model it started from is there"
        with pytest.raises(UpdateNotFoundError, match=r"round 4 was not recorded .* rounds 1 to 3"):
            whole.replay(store, rounds=[2, 4], **QUIET)
        assert store.rounds() == [3]
    with pytest.raises(InvalidParameterError, match="retention=2 would delete"):
        whole.store(retention=2)
    with whole.store(functions=1, memory="256MiB") as store:
        assert store.rounds() == [1, 2, 3]
        assert len(store.request("malicious_filtering", round=3).value.frame()) == 3
        with pytest.raises(InvalidParameterError, match="open on the recording itself"):
            whole.replay(store, **QUIET)


def test_a_round_is_read_as_it_was_sent(whole: Recording, tmp_path: Path) -> None:
    with FLStore.local(functions=1, root=str(tmp_path)) as store:
        whole.replay(store, progress=False)
        data, first = whole.read(2), whole.read(2, clients=1)
        assert list(data.updates) == store.clients(2) == list(data.metadata)
        assert list(first.updates) == store.clients(2)[:1] == list(first.metadata)
        for client, update in data.updates.items():
            assert same(update, store.update(2, client))
        assert same(data.aggregate, store.aggregate(2))
    start = whole.read(0)
    assert not start.updates
    assert same(start.aggregate, whole.read(0, clients=1).aggregate)
    with pytest.raises(UpdateNotFoundError, match=r"round 9 was not recorded below .*; there are rounds 0 to \d"):
        whole.read(9)


def same(left: Any, right: Any) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)
