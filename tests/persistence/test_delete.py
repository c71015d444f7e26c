"""What is deleted is gone, to the last byte; what is not meant stays; a repeated call does no harm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from flstore.errors import CorruptObjectError, InvalidIdError, InvalidParameterError, StoreError
from flstore.persistence import ObjectStore, Removed, metadata_path, object_path, remove, verify
from flstore.persistence.layout import is_temporary
from flstore.testing.services import S3Server
from flstore.types import Key, Kind

LEAVER = 'Zoë "O\'Neil"/../x?*'
STAYERS = ("a", "b")


_SERVERS = [pytest.param(name, marks=pytest.mark.services) for name in ("rclone", "swift")]


@pytest.fixture(params=["file", "memory", *_SERVERS])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store on every kind of root."""
    if request.param in ("rclone", "swift"):
        server: S3Server = request.getfixturevalue(request.param)
        bucket = server.create_bucket(f"bucket-{uuid.uuid4().hex[:12]}")
        return ObjectStore(f"{bucket}/a/[pre]fix", server.storage_options)
    return ObjectStore(str(tmp_path / "store") if request.param == "file" else f"memory://{uuid.uuid4().hex}")


def fill(objects: ObjectStore, an_update: Any, rounds: tuple[int, ...] = (1, 2, 3), job: str = "job") -> dict[Key, int]:
    """Updates of three clients, an aggregate and metadata in every round; bytes of the objects."""
    sizes = {}
    for r in rounds:
        for client in (*STAYERS, LEAVER, None):
            key, data = an_update(r, client, job)
            objects.put(key, data)
            sizes[key] = len(data)
        objects.put_metadata(job, r, {c: {"loss": 0.5} for c in (*STAYERS, LEAVER)}, {"lr": 0.1})
    return sizes


def everything(objects: ObjectStore) -> dict[str, bytes]:
    return {path: bytes(objects._files.read(path)) for path in objects.files()}


def mentions(objects: ObjectStore, client: str) -> list[str]:
    """Files that have an id in their name or content, in any spelling that the store uses."""
    spellings = {client, json.dumps(client), json.dumps(client, ensure_ascii=False), quote(client, safe="")}
    found = everything(objects)
    return [p for p, data in found.items() if any(s.strip('"').encode() in p.encode() + data for s in spellings)]


# --- objects and rows -----------------------------------------------------------------------------------------------


def test_delete_and_delete_again(anywhere: ObjectStore, an_update: Any) -> None:
    sizes = fill(anywhere, an_update, (1, 2))
    gone = [Key("job", Kind.UPDATE, 1, LEAVER), Key("job", Kind.AGGREGATE, 2), Key("job", Kind.UPDATE, 2, "b")]
    assert anywhere.delete([*gone, Key("job", Kind.UPDATE, 7, "nobody")]) == {key: sizes[key] for key in gone}
    assert anywhere.delete(gone) == {}
    assert anywhere.delete([]) == {}
    assert [anywhere.exists(key) for key in gone] == [False] * 3
    assert {key for key in sizes if anywhere.exists(key)} == set(sizes) - set(gone)
    assert verify(anywhere.spec["root"], anywhere.spec["storage_options"]).objects == len(sizes) - 3 + 2


def test_many_objects_go_in_few_requests(anywhere: ObjectStore, an_update: Any) -> None:
    made = dict(an_update(1, f"{i} [x]?") for i in range(12))
    for key, data in made.items():
        anywhere.put(key, data)
    assert anywhere.delete(made) == {key: len(data) for key, data in made.items()}
    assert (anywhere.files(), anywhere.jobs()) == ({}, [])


def test_rows_of_clients_are_deleted_and_others_stay(anywhere: ObjectStore) -> None:
    path = metadata_path("job", 1)
    anywhere.put_metadata("job", 1, {"a": {"x": 1}, "b": {"x": 2}, LEAVER: {"x": 3}})
    before = len(anywhere._files.read(path))
    gone, freed = anywhere.delete_metadata("job", 1, [LEAVER, "nobody"])
    assert (gone, freed) == ([LEAVER], before - len(anywhere._files.read(path)))
    assert anywhere.get_metadata("job", 1) == ({"a": {"x": 1}, "b": {"x": 2}}, {})
    assert anywhere.delete_metadata("job", 1, [LEAVER]) == ([], 0)
    rest = len(anywhere._files.read(path))
    assert anywhere.delete_metadata("job", 1, ["b", "a"]) == (["a", "b"], rest)
    assert anywhere.files() == {}
    assert anywhere.delete_metadata("job", 1) == ([], 0)


def test_what_is_known_about_the_server_goes_with_the_whole_document_only(objects: ObjectStore) -> None:
    objects.put_metadata("job", 1, {"a": {"x": 1}}, {"lr": 0.1})
    objects.delete_metadata("job", 1, ["a"])
    assert objects.get_metadata("job", 1) == ({}, {"lr": 0.1})
    assert objects.delete_metadata("job", 1)[0] == []
    assert objects.files() == {}


def test_damaged_metadata_goes_whole_or_not_at_all(objects: ObjectStore) -> None:
    objects._files.create(metadata_path("job", 1), b'{"format": ')
    with pytest.raises(CorruptObjectError, match=r"metadata\.parquet .* is damaged"):
        objects.delete_metadata("job", 1, ["a"])
    assert objects.delete_metadata("job", 1) == ([], 11)
    assert objects.files() == {}


def test_a_metadata_key_is_no_object(objects: ObjectStore, an_update: Any) -> None:
    key, data = an_update()
    objects.put(key, data)
    with pytest.raises(InvalidParameterError, match="delete_metadata"):
        objects.delete([key, Key("job", Kind.METADATA, 1, "a")])
    assert objects.exists(key)


@pytest.mark.parametrize("fsync", [False, True])
def test_local_folders_go_when_they_are_empty(tmp_path: Path, an_update: Any, fsync: bool) -> None:
    objects = ObjectStore(tmp_path, fsync=fsync)
    for made in (an_update(1, "a"), an_update(1, "b"), an_update(2, "a"), an_update(2, None)):
        objects.put(*made)
    objects.delete([Key("job", Kind.UPDATE, 1, "a"), Key("job", Kind.UPDATE, 2, "a")])
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_dir()) == [
        *("job=job", "job=job/round=00000001", "job=job/round=00000001/update", "job=job/round=00000002")
    ]
    objects.delete([Key("job", Kind.UPDATE, 1, "b"), Key("job", Kind.AGGREGATE, 2)])
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.is_dir()


def test_a_store_that_cannot_delete_says_so(tmp_path: Path, an_update: Any) -> None:
    objects = ObjectStore(tmp_path)
    key, _ = an_update()
    (tmp_path / object_path(key)).mkdir(parents=True)
    with pytest.raises(StoreError, match=f"cannot delete 1 objects below {tmp_path}: (IsADirectory|Permission)Error"):
        objects.delete([key])


@pytest.mark.services
@pytest.mark.parametrize("name", ["rclone", "swift"])
def test_a_server_that_refuses_is_heard(name: str, request: pytest.FixtureRequest, an_update: Any) -> None:
    server: S3Server = request.getfixturevalue(name)
    root = server.create_bucket(f"bucket-{uuid.uuid4().hex[:12]}")
    objects = ObjectStore(root, server.storage_options)
    objects.put(*an_update())
    wrong = ObjectStore(root, {**server.storage_options, "secret": "not-the-secret-at-all"})
    with pytest.raises(StoreError, match="cannot delete 1 objects") as refused:
        wrong.delete([an_update()[0]])
    assert "not-the-secret" not in str(refused.value)
    assert objects.exists(an_update()[0])


# --- clients, rounds and jobs ---------------------------------------------------------------------------------------


def test_no_byte_of_a_client_that_leaves_is_left(anywhere: ObjectStore, an_update: Any) -> None:
    sizes = fill(anywhere, an_update)
    other = fill(anywhere, an_update, (1,), job="other")
    before = everything(anywhere)
    assert len(mentions(anywhere, LEAVER)) == 3 * 2 + 2
    removed = remove(anywhere, "job", client=LEAVER)
    after = everything(anywhere)
    freed = sum(map(len, before.values())) - sum(map(len, after.values()))
    assert removed == Removed("job", 3, 0, 3, 0, freed, (1, 2, 3), (LEAVER,))
    assert mentions(anywhere, LEAVER) == [
        *(metadata_path("other", 1), object_path(Key("other", Kind.UPDATE, 1, LEAVER)))
    ]
    stay = [key for key in (*sizes, *other) if key.job == "other" or key.client != LEAVER]
    assert all(after[object_path(key)] == before[object_path(key)] for key in stay)
    assert anywhere.get_metadata("job", 2) == ({c: {"loss": 0.5} for c in STAYERS}, {"lr": 0.1})
    assert verify(anywhere.spec["root"], anywhere.spec["storage_options"]).ok
    assert remove(anywhere, "job", client=LEAVER) == Removed("job")


def test_rounds_are_removed_with_all_that_is_in_them(anywhere: ObjectStore, an_update: Any) -> None:
    fill(anywhere, an_update)
    removed = remove(anywhere, "job", rounds=[3, 1, 9])
    assert (removed.updates, removed.aggregates, removed.metadata_rows, removed.rounds) == (6, 2, 6, (1, 3))
    assert removed.clients == tuple(sorted((*STAYERS, LEAVER)))
    assert anywhere.rounds("job") == [2]
    assert anywhere.contents("job", 2)[0].keys() == {*STAYERS, LEAVER}
    assert remove(anywhere, "job", rounds=[3, 1, 9]) == Removed("job")


def test_a_job_is_removed_and_others_stay(anywhere: ObjectStore, an_update: Any) -> None:
    sizes = fill(anywhere, an_update)
    fill(anywhere, an_update, (1,), job="other")
    before = {path: data for path, data in everything(anywhere).items() if path.startswith("job=job/")}
    removed = remove(anywhere, "job")
    assert (removed.updates, removed.aggregates, removed.metadata_rows) == (9, 3, 9)
    assert removed.size_bytes == sum(map(len, before.values())) > sum(sizes.values())
    assert anywhere.jobs() == ["other"]
    assert remove(anywhere, "job") == Removed("job")


def test_no_rounds_are_not_all_rounds(objects: ObjectStore, an_update: Any) -> None:
    fill(objects, an_update)
    before = everything(objects)
    assert remove(objects, "job", rounds=[]) == Removed("job")
    for wrong in ({"client": "a", "rounds": [1]}, {"rounds": 3}, {"rounds": "12"}, {"rounds": [1, -1]}):
        with pytest.raises(InvalidParameterError):
            remove(objects, "job", **wrong)  # type: ignore[arg-type]
    for ids in (("job", ""), ("", "a"), ("job", 7)):
        with pytest.raises(InvalidIdError):
            remove(objects, ids[0], client=ids[1])  # type: ignore[arg-type]
    assert everything(objects) == before


def test_damaged_objects_are_removed_and_damaged_metadata_is_reported(objects: ObjectStore, an_update: Any) -> None:
    fill(objects, an_update)
    objects._files.replace(object_path(Key("job", Kind.UPDATE, 1, LEAVER)), b"torn")
    objects._files.replace(metadata_path("job", 2), f'{{"clients": {{{json.dumps(LEAVER)}: '.encode())
    with pytest.raises(CorruptObjectError, match=r"but for its metadata in rounds 2, .*delete_metadata"):
        remove(objects, "job", client=LEAVER)
    assert mentions(objects, LEAVER) == [metadata_path("job", 2)]
    assert objects.delete_metadata("job", 2)[0] == []
    assert mentions(objects, LEAVER) == []
    assert remove(objects, "job").updates == 6


def test_strays_are_not_ours_to_remove(objects: ObjectStore, an_update: Any) -> None:
    fill(objects, an_update)
    objects._files.create("job=job/round=00000001/notes.txt", b"")
    remove(objects, "job")
    assert list(objects.files()) == ["job=job/round=00000001/notes.txt"]


def test_how_it_looks() -> None:
    removed = Removed("j<", 1234, 2, 3, 0, 3 << 20, (1, 2, 3), ("a", "<b>"))
    for shown in (repr(removed), removed._repr_html_()):
        assert all(fact in shown for fact in ("1,234", "3.00 MiB", "1-3"))
    assert "<b>" not in removed._repr_html_()


# --- what killed writers leave --------------------------------------------------------------------------------------

WRITER = """
import sys
import numpy as np
from flstore.codec import encode
from flstore.persistence import ObjectStore
from flstore.types import Key, Kind

objects = ObjectStore(sys.argv[1])
keys = [Key("job", Kind.UPDATE, r, sys.argv[2]) for r in range(1, 1000)]
data = {key: encode(key, {"w": np.full(8_000_000, 1, np.float32)}) for key in keys[:2]}
print("ready", flush=True)
while True:
    for key in data:
        objects.put(key, data[key])
        objects.delete([key])
"""


def temporaries(root: Path) -> list[Path]:
    # Not `rglob`: a writer at work removes folders under its feet.
    return [root / path for path in ObjectStore(root).files() if is_temporary(path)]


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A writer of the leaver's updates that is stopped in the middle of one."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER, str(tmp_path), LEAVER]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    while True:
        assert writer.poll() is None
        if temporaries(tmp_path):
            writer.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, writer.pid, os.WSTOPPED)
            if any(path.stat().st_size > 1000 for path in temporaries(tmp_path)):
                break
            writer.send_signal(signal.SIGCONT)
    yield writer
    writer.kill()
    writer.wait()
    writer.stdout.close()


def test_what_a_killed_writer_left_is_cleaned_and_a_living_one_is_let_be(
    stopped: subprocess.Popen[bytes], tmp_path: Path, an_update: Any
) -> None:
    (torn,) = temporaries(tmp_path)
    objects = ObjectStore(tmp_path)
    objects.put(*an_update())
    size = torn.stat().st_size
    assert verify(tmp_path).temporaries == [str(torn.relative_to(tmp_path))]
    assert objects.clean_temporaries() == {}
    assert objects.clean_temporaries(older_than_s=600) == {}
    stopped.kill()
    stopped.wait()
    written_s = torn.stat().st_mtime - 7200
    os.utime(torn, (written_s, written_s))
    living = torn.with_name(f".{uuid.uuid4().hex}.tmp")
    living.write_bytes(b"being written")
    foreign = torn.with_name(".nfs000000")
    foreign.write_bytes(b"")
    os.utime(foreign, (0, 0))
    assert objects.clean_temporaries(older_than_s=3600) == {str(torn.relative_to(tmp_path)): size}
    assert living.exists()
    assert foreign.exists()
    living.unlink()
    foreign.unlink()
    assert objects.exists(an_update()[0])


def test_a_killed_writer_leaves_no_byte_of_a_client_either(
    stopped: subprocess.Popen[bytes], tmp_path: Path, an_update: Any
) -> None:
    stopped.kill()
    stopped.wait()
    objects = ObjectStore(tmp_path)
    fill(objects, an_update, (7,))
    torn_metadata = tmp_path / "job=job" / "round=00000007" / f".{'ab' * 16}.tmp"
    torn_metadata.write_text(f'{{"format": "flstore-metadata-1", "clients": {{{json.dumps(LEAVER)}')
    others = torn_metadata.parent / "update" / f".{'cd' * 16}.tmp"
    others.write_bytes(bytes(an_update(7, "a")[1])[:-7])
    removed = remove(objects, "job", client=LEAVER)
    assert removed.temporaries == 2
    assert mentions(objects, LEAVER) == []
    assert temporaries(tmp_path) == [others]
    assert remove(objects, "job").temporaries == 1
    assert list(tmp_path.iterdir()) == []


def test_folders_that_a_killed_writer_left_empty_are_cleaned(tmp_path: Path) -> None:
    torn = tmp_path / "job=job" / "round=00000001" / "update" / f".{'ab' * 16}.tmp"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"x")
    os.utime(torn, (0, 0))
    probe = tmp_path / f".flstore-{'ab' * 16}.tmp"
    probe.write_bytes(b"writable")
    os.utime(probe, (0, 0))
    assert sorted(ObjectStore(tmp_path).clean_temporaries()) == [probe.name, str(torn.relative_to(tmp_path))]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("age", [-1.0, float("nan")])
def test_ages_that_are_none(tmp_path: Path, age: float) -> None:
    with pytest.raises(InvalidParameterError, match="older_than_s"):
        ObjectStore(tmp_path).clean_temporaries(age)


def test_memory_has_no_temporaries() -> None:
    assert ObjectStore(f"memory://{uuid.uuid4().hex}").clean_temporaries(0) == {}
