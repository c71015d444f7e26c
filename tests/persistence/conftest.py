"""Stores on every kind of root, each of them real."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flstore.codec import encode
from flstore.persistence import ObjectStore
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
