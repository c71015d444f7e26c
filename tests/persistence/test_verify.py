"""A verification finds each kind of damage, and takes nothing else for damage."""

from __future__ import annotations

import io
import socket
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore.codec import encode
from flstore.errors import CorruptObjectError, InvalidParameterError, StoreError, UpdateNotFoundError
from flstore.persistence import Damage, ObjectStore, Verification, aggregate_path, metadata_path, object_path, verify
from flstore.testing.services import S3Server
from flstore.types import Key, Kind


def fill(objects: ObjectStore, an_update: Any) -> int:
    """Two jobs with updates, aggregates and metadata; their bytes."""
    made = [an_update(r, c) for r in (1, 2) for c in ("a", "../ü", None)] + [an_update(1, "a", job="other")]
    for key, data in made:
        objects.put(key, data)
    objects.put_metadata("job", 1, {"a": {"loss": float("nan")}})
    return sum(len(data) for _, data in made) + len(objects._files.read(metadata_path("job", 1)))


def flip(objects: ObjectStore, path: str, at: int) -> None:
    data = bytearray(objects._files.read(path))
    data[at] ^= 1
    objects._files.replace(path, bytes(data))


def test_a_root_as_it_was_written(objects: ObjectStore, an_update: Any) -> None:
    size = fill(objects, an_update)
    found = verify(**{k: v for k, v in objects.spec.items() if k != "fsync"})
    assert found == Verification(objects.root, None, 8, size, [], [], [])
    assert found.ok
    found.raise_if_damaged()
    one = verify(objects.spec["root"], job="other")
    assert (one.objects, one.size_bytes, one.job) == (1, len(an_update(1, "a", job="other")[1]), "other")


def test_every_damage_is_named_and_nothing_else(objects: ObjectStore, an_update: Any) -> None:
    size = fill(objects, an_update)
    a1, a2, u2 = (Key("job", Kind.UPDATE, r, c) for r, c in [(1, "a"), (2, "a"), (2, "../ü")])
    flip(objects, object_path(a1), -1)
    whole = objects.get(a2)
    objects._files.replace(object_path(a2), bytes(whole)[:-7])
    objects._files.replace(object_path(u2), an_update(2, "a")[1])
    objects._files.replace(aggregate_path("job", 2), b"not an object")
    objects._files.replace(metadata_path("job", 1), b'{"format": "flstore-metadata-1", "cli')
    strays = ["job=job/round=00000001/update/notes.txt", "lost+found/x", "job=job/round=1/aggregate.safetensors", ".DS"]
    torn = f"job=job/round=00000002/update/.{'0f' * 16}.tmp"
    for path in [*strays, torn]:
        objects._files.create(path, b"")
    found = verify(objects.spec["root"], concurrency=2)
    expected = [
        (Key("job", Kind.METADATA, 1), metadata_path("job", 1), "is damaged: Unterminated string"),
        (a1, object_path(a1), "do not match their checksum"),
        (Key("job", Kind.AGGREGATE, 2), aggregate_path("job", 2), "damaged header in 13 bytes"),
        (u2, object_path(u2), "the object holds the update of client 'a' in round 2 of job 'job' instead"),
        (a2, object_path(a2), f"{len(whole) - 7} bytes, but its header describes {len(whole)}"),
    ]
    assert [(d.key, d.path) for d in found.damaged] == [(key, path) for key, path, _ in expected]
    assert all(says in damage.reason for damage, (_, _, says) in zip(found.damaged, expected, strict=True))
    assert found.stray == sorted(strays)
    assert found.temporaries == [torn]
    assert (found.objects, found.ok) == (8, False)
    assert found.size_bytes < size
    with pytest.raises(CorruptObjectError, match=r"5 of 8 objects below .* are damaged: .*do not match their checksum"):
        found.raise_if_damaged()
    assert verify(objects.spec["root"], job="other").ok


@pytest.mark.parametrize("at", [8, 30, 60, 100, 200, 300, 1000])
def test_any_flipped_bit_is_found(tmp_path: Path, an_update: Any, at: int) -> None:
    objects = ObjectStore(tmp_path)
    key, data = an_update()
    objects.put(key, data)
    flip(objects, object_path(key), at)
    assert [d.key for d in verify(tmp_path).damaged] == [key]


def test_an_object_that_cannot_be_read_is_damage_and_a_root_that_cannot_is_an_error(
    tmp_path: Path, an_update: Any
) -> None:
    objects = ObjectStore(tmp_path)
    key, data = an_update()
    objects.put(key, data)
    path = tmp_path / object_path(key)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        # A name that can be listed and not be opened, for root too; short, because names of sockets have to be.
        short = Path(f"/tmp/{uuid.uuid4().hex}")
        listener.bind(str(short))
        try:
            path.hardlink_to(short)
        finally:
            short.unlink()
        (damage,) = verify(tmp_path).damaged
    assert "cannot read update of client '7'" in damage.reason
    with pytest.raises(StoreError, match="NotADirectoryError"):
        verify(path)


def test_what_is_not_there(tmp_path: Path, objects: ObjectStore, an_update: Any) -> None:
    assert verify(tmp_path / "empty").objects == 0
    objects.put(*an_update())
    with pytest.raises(UpdateNotFoundError, match=r"nothing of job 'jobb' below .*; jobs: job"):
        verify(objects.spec["root"], job="jobb")
    with pytest.raises(InvalidParameterError, match="concurrency must be at least 1, got 0"):
        verify(tmp_path, concurrency=0)


def test_one_object_a_thread_is_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    objects, size = ObjectStore(tmp_path), 4_000_000
    for i in range(12):
        key = Key("job", Kind.UPDATE, 1, str(i))
        objects.put(key, encode(key, {"w": np.full(size // 4, i, np.float32)}))
    verify(tmp_path)
    tracemalloc.start()
    try:
        assert verify(tmp_path, concurrency=2).objects == 12
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size < peak < 3 * size


# --- how it looks ---------------------------------------------------------------------------------------------------


def a_finding() -> Verification:
    damage = Damage(Key("j<", Kind.UPDATE, 3, "7"), "job=j%3C/x", "<script>")
    return Verification("s3://bucket/x", None, 2, 3 << 20, [damage], ["notes"], [])


def test_the_frame_has_a_row_a_finding() -> None:
    rows = a_finding().frame().astype(object).where(lambda f: f.notna(), None).to_dict("records")
    none = {"reason": "", "job": None, "kind": None, "round": None, "client": None}
    assert rows == [
        {"finding": "damaged", "path": "job=j%3C/x", "reason": "<script>", "job": "j<", "kind": "update", "round": 3}
        | {"client": "7"},
        {"finding": "stray", "path": "notes", **none},
    ]


def test_html_and_text_state_the_same_facts() -> None:
    html, text = a_finding()._repr_html_(), repr(a_finding())
    for shown in ("s3://bucket/x", "3.00 MiB", "1 damaged object, see below", "job=j%3C/x", "notes", "Findings"):
        assert shown in html
        assert shown in text
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    clean = Verification("r", "j", 1, 8, [], [], [])
    assert "Findings" not in repr(clean) + clean._repr_html_()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "progress", "seen"), [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)]
)
def test_a_bar_is_shown_where_somebody_looks(
    objects: ObjectStore, an_update: Any, monkeypatch: pytest.MonkeyPatch, stream: Any, progress: bool, seen: bool
) -> None:
    objects.put(*an_update())
    monkeypatch.setattr(sys, "stderr", shown := stream())
    monkeypatch.setattr("flstore.display.progress.PATIENCE_S", 0)
    verify(objects.spec["root"], progress=progress)
    assert ("1/1" in shown.getvalue()) is seen


@pytest.mark.services
@pytest.mark.parametrize("name", ["rclone", "swift"])
def test_on_s3(name: str, request: pytest.FixtureRequest, an_update: Any) -> None:
    server: S3Server = request.getfixturevalue(name)
    root = server.create_bucket(f"bucket-{uuid.uuid4().hex[:12]}") + "/a/prefix"
    objects = ObjectStore(root, server.storage_options)
    size = fill(objects, an_update)
    assert verify(root, server.storage_options) == Verification(root, None, 8, size, [], [], [])
    key = Key("job", Kind.UPDATE, 1, "../ü")
    flip(objects, object_path(key), -1)
    objects._files.create("job=job/notes.txt", b"stray")
    found = verify(root, server.storage_options)
    assert ([d.key for d in found.damaged], found.stray) == ([key], ["job=job/notes.txt"])
    with pytest.raises(StoreError):
        verify(root, {**server.storage_options, "secret": "not-the-secret-at-all"})
