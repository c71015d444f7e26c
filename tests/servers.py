"""Servers that fixtures start, and buckets on them."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from flstore.testing.services import S3Server, ServiceMissingError


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


def bucket(server: S3Server) -> dict[str, Any]:
    """The root and options of a store in a new bucket."""
    return {"root": server.create_bucket(f"b{uuid.uuid4().hex[:12]}"), "storage_options": server.storage_options}
