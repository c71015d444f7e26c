"""Real Redis servers, for each test that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flstore.testing.services import RedisServer, redis_server
from tests.servers import started


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
