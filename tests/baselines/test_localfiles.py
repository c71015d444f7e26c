"""LocalFiles maps what an FLStore wrote, and says what it does not check."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.baselines import LocalFiles
from flstore.errors import CorruptObjectError, InvalidParameterError, UpdateNotFoundError
from tests.store.conftest import CLIENTS, fill, make_round

PATH = "job=default/round=00000001/update/client=c1.safetensors"


def memory_of(array: np.ndarray) -> Any:
    """What an array's bytes belong to."""
    found: Any = array
    while not isinstance(found, mmap.mmap):
        found = found.base if isinstance(found, np.ndarray) else found.obj
    return found


def test_no_byte_of_an_update_is_copied(tmp_path: Path) -> None:
    with FLStore.local(functions=1, memory="64MiB", root=str(tmp_path)) as store:
        fill(store, range(1, 2))
    with LocalFiles(tmp_path) as files:
        update = files.update(1, "c1")
        assert len(memory_of(update["w"])) == (tmp_path / PATH).stat().st_size
        assert not update["w"].flags.writeable
        record = files.request("clustering", round=1, k=2).record
        assert (record.hits, record.misses, record.bytes_moved) == (0, CLIENTS + 1, 0)
        assert files.request("hyperparameters").record.bytes_moved > 0
        assert record.functions == ["this process"]


def test_an_update_stays_readable_after_its_file_is_gone(tmp_path: Path) -> None:
    with LocalFiles(tmp_path) as files:
        fill(files, range(1, 2))
        files.flush()
        update = files.update(1, "c1")
        files.delete(client="c1", progress=False)
        np.testing.assert_array_equal(update["w"], make_round(1)["c1"]["w"])
        with pytest.raises(UpdateNotFoundError):
            files.update(1, "c1")


@pytest.mark.parametrize("verify", [False, True])
def test_what_is_verified(tmp_path: Path, verify: bool) -> None:
    with LocalFiles(tmp_path, verify=verify) as files:
        fill(files, range(1, 2))
        files.flush()
        whole = (tmp_path / PATH).read_bytes()
        (tmp_path / PATH).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # one bit of one value
        if verify:
            with pytest.raises(CorruptObjectError, match=r"'c1' in round 1.*do not match their checksum"):
                files.request("clustering", round=1, k=2)
        else:
            assert files.request("clustering", round=1, k=2).value.k == 2
        for damaged in (whole[:-9], b"", whole[:8] + b"x" * 100):
            (tmp_path / PATH).unlink()  # or a mapping of it would be cut
            (tmp_path / PATH).write_bytes(damaged)
            with pytest.raises(CorruptObjectError, match="'c1' in round 1"):
                files.request("clustering", round=1, k=2)


@pytest.mark.parametrize("root", ["memory://somewhere", "s3://bucket/prefix"])
def test_only_files_of_this_machine_can_be_mapped(root: str) -> None:
    with pytest.raises(InvalidParameterError, match=f"{root}.*ObjStoreAgg"):
        LocalFiles(root)


def test_more_files_than_a_process_may_open_are_read(tmp_path: Path) -> None:
    import resource

    with LocalFiles(tmp_path) as files:
        files.ingest(1, {str(i): {"w": np.full(3, i, "f4")} for i in range(200)})
        files.flush()
        used = len(list(Path("/proc/self/fd").iterdir()))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, hard))
        try:
            found = files.request("cosine_similarity", round=1, of="model").value
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(found.clients) == 200
