"""The promises of the object store, on files and in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore.codec import checksum_of, decode
from flstore.errors import (
    CorruptObjectError,
    InvalidIdError,
    InvalidParameterError,
    InvalidUpdateError,
    StoreError,
    UpdateExistsError,
    UpdateNotFoundError,
)
from flstore.persistence import ObjectStore, object_path
from flstore.types import Key, Kind


def test_put_get_and_put_again(objects: ObjectStore, an_update: Any) -> None:
    key, data = an_update()
    assert not objects.exists(key)
    assert objects.put(key, data) is True
    assert objects.put(key, data) is False
    assert objects.exists(key)
    assert bytes(objects.get(key)) == bytes(data)
    assert objects.checksum(key) == checksum_of(data)


def check_ranges(objects: ObjectStore, key: Key, data: Any) -> None:
    whole = bytes(data)
    for start, size in ((0, 8), (7, 100), (len(whole) - 5, 5), (len(whole) - 5, 50), (0, len(whole) + 1)):
        assert bytes(objects.get_range(key, start, size)) == whole[start : start + size]


def test_any_range_of_an_object_can_be_read(objects: ObjectStore, an_update: Any) -> None:
    key, data = an_update()
    objects.put(key, data)
    check_ranges(objects, key, data)
    with pytest.raises(UpdateNotFoundError):
        objects.get_range(an_update(client="8")[0], 0, 8)


def test_another_object_is_refused_and_nothing_changes(objects: ObjectStore, an_update: Any) -> None:
    key, data = an_update()
    objects.put(key, data)
    with pytest.raises(UpdateExistsError, match="another update of client '7' in round 3"):
        objects.put(*an_update(fill=2.0))
    assert bytes(objects.get(key)) == bytes(data)


def test_what_is_not_there(objects: ObjectStore, an_update: Any) -> None:
    key, _ = an_update()
    for ask in (objects.get, objects.checksum, lambda k: objects.get_many([k])):
        with pytest.raises(UpdateNotFoundError, match="there is no update of client '7' in round 3 of job 'job'"):
            ask(key)
    assert (objects.jobs(), objects.rounds("job"), objects.clients("job", 3)) == ([], [], {})
    assert list(objects.listing("job")) == []
    assert objects.get_metadata("job", 3) == ({}, {})


def test_get_many_keeps_the_order_and_reads_each_once(objects: ObjectStore, an_update: Any) -> None:
    made = dict(an_update(client=str(i), fill=i) for i in range(20))
    for key, data in made.items():
        objects.put(key, data)
    wanted = list(reversed(made))
    got = objects.get_many([*wanted, wanted[0]], concurrency=3)
    assert list(got) == wanted
    assert all(decode(data, key=key)["w"][0] == int(key.client or 0) for key, data in got.items())
    assert objects.get_many([]) == {}


def test_listing_shows_whole_objects_of_ours_only(objects: ObjectStore, an_update: Any) -> None:
    for round, client in [(3, "b"), (3, "a"), (3, None), (10, "../x"), (2, None)]:
        objects.put(*an_update(round, client))
    objects.put(*an_update(1, "z", job="other/job"))
    objects.put_metadata("job", 4, {"a": {"loss": 1.0}})
    foreign = [
        "job=job/round=00000003/update/notes.txt",
        "job=job/round=00000009/x",
        "job=job/readme/y",
        "lost+found/z",
    ]
    for path in foreign:
        objects._files.create(path, b"not ours")
    size = {r: len(an_update(r, c)[1]) for r, c in [(2, None), (10, "../x")]}
    ab = {c: len(an_update(3, c)[1]) for c in "ab"}
    assert objects.jobs() == ["job", "other/job"]
    assert objects.rounds("job") == [2, 3, 4, 9, 10]
    assert objects.clients("job", 3) == ab
    assert list(objects.clients("job", 3)) == ["a", "b"]
    assert list(objects.listing("job")) == [
        (2, {}, size[2], False),
        (3, ab, len(an_update(3, None)[1]), False),
        (4, {}, None, True),
        (10, {"../x": size[10]}, None, False),
    ]


def test_metadata_merges_by_client_and_field(objects: ObjectStore) -> None:
    objects.put_metadata("job", 1, {"a": {"loss": float("nan"), "lr": np.float32(0.5)}, "b": {"n": np.int64(3)}})
    objects.put_metadata("job", 1, {"a": {"lr": float("-inf"), "tags": ("x", None, True)}}, {"round_s": 2})
    rows, server = objects.get_metadata("job", 1)
    assert np.isnan(rows["a"].pop("loss"))
    assert rows == {"a": {"lr": float("-inf"), "tags": ["x", None, True]}, "b": {"n": 3}}
    assert type(rows["b"]["n"]) is int
    assert server == {"round_s": 2}
    assert objects.exists(Key("job", Kind.METADATA, 1, "a"))


@pytest.mark.parametrize(
    ("rows", "server", "says"),
    [
        ({"a": {"x": {1, 2}}}, None, "client 'a', field 'x': set"),
        ({"a": {"x": np.ones(2)}}, None, "ndarray is not a JSON value; pass value.tolist"),
        ({"a": {"x": [1, {"y": b"z"}]}}, None, r"field 'x'\[1\], field 'y': bytes"),
        ({"a": {"x": np.complex64(1)}}, None, "complex"),
        ({"a": {3: 1}}, None, "field name 3"),
        ({"a": 3}, None, "of client 'a' is a mapping, not int"),
        ({}, {"x": object()}, "the server, field 'x': object"),
    ],
)
def test_metadata_that_json_cannot_hold(objects: ObjectStore, rows: Any, server: Any, says: str) -> None:
    objects.put_metadata("job", 1, {"a": {"kept": 1}})
    with pytest.raises(InvalidUpdateError, match=says):
        objects.put_metadata("job", 1, rows, server)
    assert objects.get_metadata("job", 1) == ({"a": {"kept": 1}}, {})


def test_metadata_from_many_threads_loses_nothing(objects: ObjectStore) -> None:
    threads = [threading.Thread(target=objects.put_metadata, args=("job", 1, {str(i): {"i": i}})) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert objects.get_metadata("job", 1)[0] == {str(i): {"i": i} for i in range(24)}


def test_damaged_metadata(objects: ObjectStore) -> None:
    objects._files.replace("job=job/round=00000001/metadata.parquet", b'{"format": "flstore-metadata-1", "cli')
    with pytest.raises(CorruptObjectError, match=r"round=00000001/metadata.parquet .* is damaged"):
        objects.get_metadata("job", 1)


def test_a_torn_object_is_never_taken_for_an_update(objects: ObjectStore, an_update: Any) -> None:
    key, data = an_update()
    objects._files.create(object_path(key), data[:-7])
    with pytest.raises(CorruptObjectError):
        decode(objects.get(key), key=key)
    objects._files.replace(object_path(key), data[:20])
    for call in (lambda: objects.put(key, data), lambda: objects.checksum(key)):
        with pytest.raises(CorruptObjectError, match="client '7' in round 3"):
            call()


def test_what_cannot_be_a_name(objects: ObjectStore, an_update: Any) -> None:
    _, data = an_update()
    with pytest.raises(InvalidIdError):
        objects.put(Key("job", Kind.UPDATE, 1, ""), data)
    with pytest.raises(InvalidParameterError):
        objects.rounds("job") or objects.clients("job", -1)
    with pytest.raises(InvalidParameterError, match="use put_metadata"):
        objects.get(Key("job", Kind.METADATA, 1, "a"))
    with pytest.raises(CorruptObjectError):
        objects.put(Key("job", Kind.UPDATE, 1, "a"), b"not an object")
    assert objects.jobs() == []


def test_check_writable_leaves_nothing(objects: ObjectStore) -> None:
    objects.check_writable()
    assert objects._files.files("") == {}
    assert objects.jobs() == []


def test_many_writers_of_one_key_agree_on_one(objects: ObjectStore, an_update: Any) -> None:
    made = [an_update(fill=i) for i in range(8)]
    outcomes: list[object] = []
    start = threading.Barrier(len(made))

    def write(key: Key, data: memoryview) -> None:
        start.wait()
        try:
            outcomes.append(objects.put(key, data))
        except UpdateExistsError:
            outcomes.append("exists")

    threads = [threading.Thread(target=write, args=each) for each in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, outcomes)) == ["True"] + ["exists"] * 7
    winner = decode(objects.get(made[0][0]), key=made[0][0])
    assert winner["w"][0] in range(8)


# --- files only -----------------------------------------------------------------------------------------------------


def test_a_root_that_cannot_be_written(tmp_path: Path, an_update: Any) -> None:
    (tmp_path / "file").write_text("in the way")
    objects = ObjectStore(str(tmp_path / "file" / "x"))
    for call in (objects.check_writable, lambda: objects.put(*an_update())):
        with pytest.raises(StoreError, match=f"cannot write.* below {tmp_path / 'file' / 'x'}: NotADirectoryError"):
            call()


def test_spec_rebuilds_the_store_elsewhere(tmp_path: Path, an_update: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = ObjectStore("relative", fsync=True)
    key, data = an_update()
    objects.put(key, data)
    objects.put_metadata("job", 3, {"7": {"x": 1}})
    monkeypatch.chdir("/")
    again = ObjectStore(**json.loads(json.dumps(objects.spec)))
    assert bytes(again.get(key)) == bytes(data)
    assert again.spec == {"root": str(tmp_path / "relative"), "storage_options": {}, "fsync": True}
    assert (again.is_local_memory, ObjectStore("memory://x").is_local_memory) == (False, True)
    assert ObjectStore(f"file://{tmp_path}/relative").clients("job", 3) == {"7": len(data)}
    assert ObjectStore(tmp_path / "relative").rounds("job") == [3]


def test_local_reads_are_aligned(tmp_path: Path, an_update: Any) -> None:
    objects = ObjectStore(tmp_path)
    key, data = an_update()
    objects.put(key, data)
    assert np.frombuffer(objects.get(key), np.uint8).ctypes.data % 64 == 0


def test_no_temporary_file_is_left(tmp_path: Path, an_update: Any) -> None:
    objects = ObjectStore(tmp_path)
    key, data = an_update()
    objects.put(key, data)
    with pytest.raises(FileExistsError):
        objects._files.create(object_path(key), data)
    objects.put_metadata("job", 3, {"7": {}})
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["client=7.safetensors", "metadata.parquet"]


def test_a_killed_writer_leaves_whole_objects_only(tmp_path: Path) -> None:
    program = """
import sys
import numpy as np
from flstore.codec import encode
from flstore.persistence import ObjectStore
from flstore.types import Key, Kind

objects = ObjectStore(sys.argv[1])
for i in range(100_000):
    key = Key("job", Kind.UPDATE, 1, str(i))
    objects.put(key, encode(key, {"w": np.full(2_000_000, i, np.float32)}))
    print(i, flush=True)
"""
    folder = tmp_path / "job=job" / "round=00000001" / "update"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=environment)
    assert writer.stdout is not None
    assert [writer.stdout.readline() for _ in range(3)] == [b"0\n", b"1\n", b"2\n"]
    while not any(path.name.startswith(".") for path in folder.iterdir()):
        assert writer.poll() is None
    writer.kill()
    writer.wait()
    writer.stdout.close()
    objects = ObjectStore(tmp_path)
    clients = objects.clients("job", 1)
    assert {"0", "1", "2"} <= clients.keys()
    assert all(not name.startswith(".") for name in clients)
    for client in clients:
        key = Key("job", Kind.UPDATE, 1, client)
        assert decode(objects.get(key), key=key)["w"][-1] == float(client)


# --- roots and secrets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "says"), [("", "cannot be empty"), ("nonsense://x", "nonsense"), ("s3://", "no bucket")]
)
def test_roots_that_are_none(root: str, says: str) -> None:
    with pytest.raises(InvalidParameterError, match=says):
        ObjectStore(root)


def test_secrets_stay_out_of_sight() -> None:
    objects = ObjectStore("memory://x", {"secret": "hunter22", "client_kwargs": {"aws_session_token": "tok-abc"}})
    assert repr(objects) == "ObjectStore('memory://x')"
    said = objects._redaction("hunter22 and tok-abc at sftp://me:pw@host/x")
    assert said == "*** and *** at sftp://host/x"
    assert objects.spec["storage_options"]["secret"] == "hunter22"
    assert "hunter22" not in repr(vars(objects)["_redaction"])
