"""From stored bytes to what workloads read: verified tensors, or the metadata of one client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flstore import codec, tensors
from flstore.errors import FLStoreError, UpdateNotFoundError
from flstore.types import Key, Kind

if TYPE_CHECKING:
    from flstore.persistence.objects import ObjectStore


def metadata_size(row: dict[str, Any]) -> int:
    """Bytes that the metadata of one client counts for: its length as JSON."""
    return len(json.dumps(row, default=str).encode())


@contextmanager
def about(key: Key) -> Iterator[None]:
    """Let an error of ours say which object it is about."""
    try:
        yield
    except FLStoreError as error:
        error.key = key
        raise


def take(key: Key, stored: Any, *, verify: bool = True) -> tuple[Any, int]:
    """The value of an object and its bytes. `stored` is a codec buffer or, for metadata, a dict.

    Without `verify`, the name, size and layout of a buffer are checked, and its checksum is not.

    Raises
    ------
    CorruptObjectError
        The buffer is not what was written under `key`.
    """
    if key.kind is Kind.METADATA:
        return stored, metadata_size(stored)
    with about(key):
        update = codec.decode(stored, key=key, verify=verify)
    return update, update.size_bytes


def read(objects: ObjectStore, key: Key) -> tuple[Any, int]:
    """Read one object from the persistent store.

    Raises
    ------
    UpdateNotFoundError
        It is not there.
    CorruptObjectError
        It is not what was written.
    StoreError
        The store could not be read.
    """
    with about(key):
        if key.kind is not Kind.METADATA:
            return take(key, tensors.aligned(objects.get(key)))
        rows, _ = objects.get_metadata(key.job, key.round)
        if key.client not in rows:
            raise UpdateNotFoundError(f"there is no {key} in the persistent store")
        return take(key, rows[key.client])
