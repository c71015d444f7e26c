"""Roots of a version that kept metadata as JSON are read, and move to Parquet round by round as they change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flstore import FLStore
from flstore.errors import CorruptObjectError
from flstore.persistence import ObjectStore, metadata_path, remove, verify
from flstore.persistence.layout import old_metadata_path
from flstore.persistence.metadata import RoundMetadata
from flstore.persistence.tables import to_rows
from flstore.types import Key, Kind

OLD = (
    '{"format": "flstore-metadata-1", "clients": {"a": {"loss": NaN, "lr": 0.5}, "b": {"n": [1]}}, "server": {"s": 2}}'
)


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    made = ObjectStore(tmp_path / "root")
    made._files.create(old_metadata_path("job", 3), OLD.encode())
    return made


def test_it_is_found_and_read(objects: ObjectStore) -> None:
    rows, server = objects.get_metadata("job", 3)
    assert np.isnan(rows["a"].pop("loss"))
    assert (rows, server) == ({"a": {"lr": 0.5}, "b": {"n": [1]}}, {"s": 2})
    assert to_rows(objects.get_metadata_table("job", 3))["b"] == {"n": [1]}
    assert objects.exists(Key("job", Kind.METADATA, 3, "a"))
    assert list(objects.listing("job")) == [(3, {}, None, True)]
    found = verify(objects.spec["root"])
    assert (found.ok, found.objects, found.stray) == (True, 1, [])


def test_a_change_moves_it(objects: ObjectStore) -> None:
    objects.put_metadata("job", 3, {"a": {"loss": 1.0}, "c": {"n": 3}})
    assert list(objects.files()) == [metadata_path("job", 3)]
    rows, server = objects.get_metadata("job", 3)
    assert rows == {"a": {"loss": 1.0, "lr": 0.5}, "b": {"n": [1]}, "c": {"n": 3}}
    assert server == {"s": 2}


def test_a_client_who_leaves_is_in_neither(objects: ObjectStore) -> None:
    assert remove(objects, "job", client="a").metadata_rows == 1
    assert list(objects.files()) == [metadata_path("job", 3)]
    assert objects.get_metadata("job", 3) == ({"b": {"n": [1]}}, {"s": 2})
    assert objects.delete_metadata("job", 3)[0] == ["b"]
    assert objects.files() == {}


def test_what_a_killed_writer_left_beside_the_new_one_counts_no_more(objects: ObjectStore) -> None:
    objects._files.create(metadata_path("job", 3), RoundMetadata.of({"b": {"x": 1}, "c": {"x": 2}}).dump())
    assert objects.get_metadata("job", 3) == ({"b": {"x": 1}, "c": {"x": 2}}, {})
    assert verify(objects.spec["root"]).ok
    objects.delete_metadata("job", 3, ["a"])
    assert list(objects.files()) == [metadata_path("job", 3)], "a's row was in the old one"
    objects.delete_metadata("job", 3)
    assert objects.files() == {}


def test_damage_is_damage_there_too(objects: ObjectStore) -> None:
    objects._files.replace(old_metadata_path("job", 3), OLD[:50].encode())
    for read in (objects.get_metadata, objects.get_metadata_table):
        with pytest.raises(CorruptObjectError, match=r"metadata\.json .* is damaged"):
            read("job", 3)


def test_a_store_opens_on_it(objects: ObjectStore) -> None:
    with FLStore.local(functions=1, memory="64MiB", root=objects.spec["root"], job="job") as store:
        assert store.request("hyperparameters", rounds=[3]).value.frame().loc[(3, "a"), "lr"] == 0.5
        assert store.metadata(3).loc[(3, "a"), "lr"] == 0.5
