"""One object a tensor: the promises of a persistent store hold, and what is lost is named."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore.baselines import ObjStoreAgg
from flstore.baselines.objstore import ArrangedStore
from flstore.codec import decode, encode
from flstore.errors import CorruptObjectError, InvalidParameterError, UpdateNotFoundError
from flstore.persistence.layout import parse_path
from flstore.testing.services import S3Server
from flstore.testing.stores import check_objects
from flstore.types import Key, Kind
from tests.store.conftest import CLIENTS, fill, make_round

KEY = Key("default", Kind.UPDATE, 1, "c1")
FOLDER = "job=default/round=00000001/update/client=c1.layers"


def open_layers(root: str, storage_options: Any = None) -> ArrangedStore:
    return ArrangedStore(root, storage_options, layout="per-layer")


def make_update(fill: float = 1.0) -> memoryview:
    tensors = {"big": np.full(100, fill, "f4"), "none": np.zeros((0, 3), "f4"), "seen": np.array(7)}
    return encode(KEY, tensors)


def test_the_contract_holds_on_files_and_in_memory(tmp_path: Path) -> None:
    check_objects(lambda: str(tmp_path / uuid.uuid4().hex), open_store=open_layers)
    check_objects(lambda: f"memory://{uuid.uuid4().hex}", open_store=open_layers)


@pytest.mark.services
@pytest.mark.parametrize("server", ["rclone", pytest.param("swift", marks=pytest.mark.slow)])
def test_the_contract_holds_on_s3(request: pytest.FixtureRequest, server: str) -> None:
    s3: S3Server = request.getfixturevalue(server)
    check_objects(
        lambda: s3.create_bucket(f"b{uuid.uuid4().hex[:12]}"),
        s3.storage_options,
        exclusive=False,
        open_store=open_layers,
    )


def test_every_tensor_that_has_bytes_is_an_object(tmp_path: Path) -> None:
    objects = open_layers(str(tmp_path))
    data = make_update()
    objects.put(KEY, data)
    names = [path.relative_to(tmp_path / FOLDER) for path in (tmp_path / FOLDER).rglob("*") if path.is_file()]
    checksum = decode(data).checksum
    assert sorted(map(str, names)) == [f"{checksum}/00000", f"{checksum}/00001", "head"]
    assert (tmp_path / FOLDER / checksum / "00000").read_bytes() == np.full(100, 1, "f4").tobytes()
    assert bytes(objects.get(KEY)) == bytes(data)
    assert bytes(objects.get_range(KEY, 3, 500)) == bytes(data)[3:503]
    assert objects.clients("default", 1) == {"c1": memoryview(data).nbytes}
    assert [parse_path(path) for path in objects.files()] == [KEY]


@pytest.mark.parametrize("how", ["gone", "short"])
def test_a_tensor_that_is_lost_is_named(tmp_path: Path, how: str) -> None:
    with ObjStoreAgg(str(tmp_path), "per-layer") as store:
        fill(store, range(1, 2))
        store.flush()
        (lost,) = (tmp_path / FOLDER).glob("*/00000")
        if how == "gone":
            lost.unlink()
        else:
            lost.write_bytes(b"torn")
        with pytest.raises(CorruptObjectError, match=r"client=c1\.safetensors: the object .*/00000 of its tensor 'w'"):
            store.request("clustering", round=1, k=2)
        healed = store._objects.heal(KEY, encode(KEY, make_round(1)["c1"]))
        assert healed is True
        assert store.request("clustering", round=1, k=2).value.k == 2


def test_what_a_killed_writer_left_is_not_seen_and_goes_with_its_round(tmp_path: Path) -> None:
    objects = open_layers(str(tmp_path))
    objects.put(KEY, make_update())
    (tmp_path / FOLDER / "head").unlink()  # it is written last
    with ObjStoreAgg(str(tmp_path), "per-layer") as store:
        assert store.rounds() == []
        receipt = store.ingest(1, {"c2": {"big": np.full(100, 3, "f4"), "seen": np.array(7)}})
        receipt.wait()
        assert store.clients(1) == ["c2"]
        removed = store.delete(rounds=[1], progress=False)
        assert (removed.updates, removed.temporaries) == (1, 2)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_of_two_that_race_the_loser_changes_nothing(tmp_path: Path) -> None:
    objects = open_layers(str(tmp_path))
    first, second = make_update(1.0), make_update(2.0)
    objects.put(KEY, first)
    with pytest.raises(FileExistsError):
        objects._files.create("job=default/round=00000001/update/client=c1.safetensors", second)
    assert bytes(objects.get(KEY)) == bytes(first)
    assert objects.clients("default", 1) == {"c1": memoryview(first).nbytes}
    assert objects.delete([KEY])
    assert list(tmp_path.iterdir()) == []


def test_a_client_that_left_is_nowhere(tmp_path: Path) -> None:
    with ObjStoreAgg(str(tmp_path), "per-layer") as store:
        fill(store, range(1, 3))
        removed = store.delete(client="c2", progress=False)
        assert (removed.updates, removed.metadata_rows) == (2, 2)
        assert removed.size_bytes > 2 * 8000
        assert [path for path in tmp_path.rglob("*") if "client=c2" in path.name] == []
        assert store.request("clustering", round=2, k=2).value.clients == ["c0", "c1", "c3", "c4"]
        with pytest.raises(UpdateNotFoundError, match="c2"):
            store.update(1, "c2")


def test_another_job_goes_whatever_its_layout(tmp_path: Path) -> None:
    with ObjStoreAgg(str(tmp_path), job="other") as other:
        fill(other, range(1, 2))
    with ObjStoreAgg(str(tmp_path), "per-layer") as store:
        fill(store, range(1, 2))
        assert store.delete(job="other", progress=False).updates == CLIENTS
        assert not list(tmp_path.glob("job=other/**/*.safetensors"))
        assert len(store.clients(1)) == CLIENTS


@pytest.mark.parametrize(("first", "second"), [("per-update", "per-layer"), ("per-layer", "per-update")])
def test_a_root_of_the_other_layout_is_refused(tmp_path: Path, first: str, second: str) -> None:
    with ObjStoreAgg(str(tmp_path), first) as store:
        fill(store, range(1, 2))
    with pytest.raises(InvalidParameterError, match=rf"not laid out {second} .* layout='{first}'"):
        ObjStoreAgg(str(tmp_path), second)
    with ObjStoreAgg(str(tmp_path), first) as store:
        assert len(store.clients(1)) == CLIENTS


@pytest.mark.parametrize(
    "options", [{"layout": "per-tensor"}, {"concurrency": 0}, {"concurrency": True}, {"compute_threads": 0}]
)
def test_what_is_out_of_range_is_named(tmp_path: Path, options: dict[str, Any]) -> None:
    (name, value), *_ = options.items()
    with pytest.raises(InvalidParameterError, match=f"{name} must be .*{value!r}"):
        ObjStoreAgg(str(tmp_path), **options)
