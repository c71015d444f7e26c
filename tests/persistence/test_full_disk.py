"""A disk that is really full: the store says so, shows nothing torn, and goes on once there is room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flstore.baselines import ObjStoreAgg
from flstore.codec import decode, encode
from flstore.errors import StoreError
from flstore.persistence import ObjectStore, Writer, verify
from flstore.types import Key, Kind
from tests.disks import small_file_system

SOON_S = 20.0
HALF = 150_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    with small_file_system(tmp_path / "disk", "1m") as disk:
        yield disk


def an_object(client: str) -> tuple[Key, memoryview]:
    """An update of more than half of the disk."""
    key = Key("job", Kind.UPDATE, 1, client)
    return key, encode(key, {"w": np.full(HALF, 1.0, np.float32)})


def test_a_full_disk_is_named_and_nothing_torn_is_visible(small_disk: Path) -> None:
    root = small_disk / "store"
    objects = ObjectStore(root)
    objects.put(*an_object("a"))
    objects.put_metadata("job", 1, {"a": {"x": 1}})
    with pytest.raises(
        StoreError, match=rf"cannot write update of client 'b'.* below {root}: .*No space left on device"
    ):
        objects.put(*an_object("b"))
    with pytest.raises(StoreError, match="No space left on device"):
        objects.put_metadata("job", 1, {"a": {"x": "y" * 1_000_000}})
    assert list(objects.clients("job", 1)) == ["a"]
    assert objects.get_metadata("job", 1) == ({"a": {"x": 1}}, {})
    found = verify(root)
    assert (found.objects, found.ok, found.stray, found.temporaries) == (2, True, [], [])


def test_the_writer_keeps_the_update_until_there_is_room(small_disk: Path) -> None:
    objects = ObjectStore(small_disk / "store")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(HALF * 4))
    key, data = an_object("b")
    writer = Writer(objects, write_buffer=10_000_000, attempts=2, backoff_s=0.001)
    assert isinstance(writer.submit(key, data).exception(SOON_S), StoreError)
    with pytest.raises(StoreError, match=r"1 writes failed and are kept .*No space left on device"):
        writer.flush()
    assert writer.pending(key) == data
    assert (objects.clients("job", 1), list(objects.files())) == ({}, [])
    filler.unlink()
    writer.retry_failed()
    writer.flush()
    assert (writer.pending(key), writer.pending_bytes) == (None, 0)
    writer.close()
    assert decode(objects.get(key), key=key) == decode(data)


def test_cleaning_and_deleting_need_no_room(small_disk: Path) -> None:
    objects = ObjectStore(small_disk)
    key, data = an_object("a")
    objects.put(key, data)
    torn = small_disk / "job=job" / "round=00000001" / "update" / f".{'ab' * 16}.tmp"
    with open(torn, "wb", buffering=0) as file:
        assert file.write(bytes(2_000_000)) < 2_000_000
    os.utime(torn, (0, 0))
    assert list(objects.clean_temporaries()) == [str(torn.relative_to(small_disk))]
    assert objects.delete([key]) == {key: len(data)}
    assert list(small_disk.iterdir()) == []


def test_a_system_flushes_once_there_is_room(small_disk: Path) -> None:
    with ObjStoreAgg(str(small_disk / "store")) as system:
        filler = small_disk / "filler"
        filler.write_bytes(bytes(HALF * 4))
        system.ingest(1, {"a": {"w": np.full(HALF, 1.0, np.float32)}})
        with pytest.raises(StoreError, match="No space left on device"):
            system.flush()
        assert system.update(1, "a")["w"].sum() == HALF
        filler.unlink()
        system.flush()
        assert verify(small_disk / "store").ok
        assert system.update(1, "a")["w"].sum() == HALF
