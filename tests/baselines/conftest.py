"""Real servers, one of each for all tests here, and a fresh bucket or an emptied Redis for each that asks."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from flstore.testing.services import RedisServer, S3Server, ServiceMissingError, rclone_s3, redis_server, swift_s3


def started(start: Callable[[], AbstractContextManager[Any]]) -> Iterator[Any]:
    """A server, or a reason to skip; where all must be there, a failure."""
    try:
        running = start()
        server = running.__enter__()
    except ServiceMissingError as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
    try:
        yield server
    finally:
        running.__exit__(None, None, None)


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A fast S3 server."""
    yield from started(lambda: rclone_s3(tmp_path_factory.mktemp("rclone")))


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A faithful S3 server."""
    yield from started(lambda: swift_s3(tmp_path_factory.mktemp("swift")))


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Callable[..., RedisServer]]:
    """Starts Redis servers that end with the test."""
    running: list[Iterator[RedisServer]] = []

    def start(**options: Any) -> RedisServer:
        running.append(started(lambda: redis_server(tmp_path, **options)))
        return next(running[-1])

    yield start
    for server in running:
        next(server, None)


def bucket(server: S3Server) -> dict[str, Any]:
    """The root and options of a store in a new bucket."""
    return {"root": server.create_bucket(f"b{uuid.uuid4().hex[:12]}"), "storage_options": server.storage_options}
