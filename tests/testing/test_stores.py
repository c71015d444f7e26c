"""The file systems that FLStore is for keep the contract, and the suite that says so finds those that do not."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from flstore.testing.faulty_fs import Fault, FaultPlan
from flstore.testing.services import S3Server
from flstore.testing.stores import check_objects
from tests.servers import bucket


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], str]:
    """Names an empty folder at every call."""
    return lambda: str(tmp_path / uuid.uuid4().hex)


def test_folders_and_file_urls(fresh: Callable[[], str]) -> None:
    check_objects(fresh)
    check_objects(lambda: f"file://{fresh()}")


def test_memory() -> None:
    check_objects(lambda: f"memory://{uuid.uuid4().hex}")


def test_a_faulty_file_system_without_faults(fresh: Callable[[], str], tmp_path: Path) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    check_objects(lambda: plan.url(fresh()), plan.storage_options)
    assert plan.strikes() == []


@pytest.mark.services
def test_s3_without_conditions(rclone: S3Server) -> None:
    root = bucket(rclone)["root"]
    check_objects(lambda: f"{root}/{uuid.uuid4().hex}", rclone.storage_options, exclusive=False)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault("tear", "read"), "round_trip on .*: CorruptObjectError"),
        (Fault("fail", "list"), "listing on .*: StoreError"),
        (Fault("fail", "remove"), "probe on .*: StoreError"),
        (Fault("fail", "write", match="*metadata*"), "listing on .*: StoreError"),
    ],
)
def test_faults_are_found(fresh: Callable[[], str], tmp_path: Path, fault: Fault, says: str) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    plan.add(fault)
    with pytest.raises(AssertionError, match=says):
        check_objects(lambda: plan.url(fresh()), plan.storage_options)


class Overwrites(MemoryFileSystem):  # type: ignore[misc]
    """Cannot create a file only when there is none."""

    protocol = "overwrites"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs: list[str] = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix("overwrites://"))  # type: ignore[no-any-return]

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value, mode="overwrite", **kwargs)


def test_a_file_system_that_overwrites_is_found() -> None:
    fsspec.register_implementation("overwrites", Overwrites, clobber=True)
    with pytest.raises(AssertionError, match="created under a name that is taken"):
        check_objects(lambda: f"overwrites://{uuid.uuid4().hex}")
    check_objects(lambda: f"overwrites://{uuid.uuid4().hex}", exclusive=False)
