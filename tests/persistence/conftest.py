"""Stores on every kind of root, each of them real."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from flstore.codec import encode
from flstore.persistence import ObjectStore
from flstore.testing.services import S3Server, ServiceMissingError, rclone_s3, swift_s3
from flstore.types import Key, Kind

Encode = Callable[..., tuple[Key, memoryview]]


@pytest.fixture(params=["file", "memory"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store."""
    return ObjectStore(str(tmp_path / "store") if request.param == "file" else f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def an_update() -> Encode:
    """Makes a key and its encoded object of about 4 kB."""

    def make(round: int = 3, client: str | None = "7", job: str = "job", fill: float = 1.0) -> tuple[Key, memoryview]:
        key = Key(job, Kind.AGGREGATE if client is None else Kind.UPDATE, round, client)
        return key, encode(key, {"w": np.full(1000, fill, np.float32)})

    return make


def _started(start: Callable[[Path], AbstractContextManager[S3Server]], folder: Path) -> Iterator[S3Server]:
    try:
        running = start(folder)
        server = running.__enter__()
    except ServiceMissingError as exc:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(exc))
    try:
        yield server
    finally:
        running.__exit__(None, None, None)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A fast S3 server."""
    yield from _started(rclone_s3, tmp_path_factory.mktemp("rclone"))


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A faithful S3 server."""
    yield from _started(swift_s3, tmp_path_factory.mktemp("swift"))
