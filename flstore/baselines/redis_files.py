"""Whole objects in a Redis server, as files below a root: each value lies under the path that it has elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from flstore.errors import CapacityError, CorruptObjectError
from flstore.persistence.metadata import RoundMetadata, is_table
from flstore.tensors import Buffer, as_bytes

_MOST_LISTED = 1000
_VALUE_BYTES = 512 << 20
"""Redis refuses larger values (``proto-max-bulk-len``)."""


class RedisFiles:
    """What is needed of a file system, on a Redis server. Safe to use from many threads.

    Metadata is kept by rows, as JSON: a cache is asked for a few rows, not for a column, and a small document is read
    five times as fast so.

    Parameters
    ----------
    client : redis.Redis
        Answers bytes.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def create(self, path: str, data: Buffer) -> None:
        if not self._set(path, data, nx=True):
            raise FileExistsError(path)

    def replace(self, path: str, data: Buffer) -> None:
        self._set(path, data)

    def _set(self, path: str, data: Buffer, nx: bool = False) -> bool:
        data = _by_rows(path, data)
        size = as_bytes(data).nbytes
        if size > _VALUE_BYTES:
            raise CapacityError(
                f"{path} has {size:,} bytes, and Redis takes values of at most {_VALUE_BYTES:,}; keep it in an object "
                f"store (ObjStoreAgg, FLStore)"
            )
        return bool(self.client.set(path, as_bytes(data), nx=nx))

    def read(self, path: str, size: int | None = None, start: int = 0) -> Buffer:
        if size is None:
            whole: bytes | None = self.client.get(path)
            if whole is None:
                raise FileNotFoundError(path)
            return whole
        with self.client.pipeline(transaction=True) as both:  # at one moment: another thread may be writing it
            some, there = both.getrange(path, start, start + size - 1).exists(path).execute()
        if not there:
            raise FileNotFoundError(path)
        return bytes(some)

    def read_many(self, paths: Sequence[str]) -> list[bytes | None]:
        """The values of all, in one question; None for what is not there."""
        found: list[bytes | None] = self.client.mget(paths)
        return found

    def exists(self, path: str) -> bool:
        return bool(self.client.exists(path))

    def remove(self, path: str) -> None:
        if not self.client.delete(path):
            raise FileNotFoundError(path)

    def remove_all(self, paths: Iterable[str]) -> dict[str, int]:
        paths = list(paths)
        there = {path: size for path, size in self._sizes(paths).items() if size or self.exists(path)}
        for some in _batches(list(there)):
            self.client.delete(*some)
        return there

    def prune(self, path: str) -> None:
        """Nothing to do: a folder is no more than the names in it."""

    def folders(self, path: str) -> list[str]:
        start = len(path) + 1 if path else 0
        return sorted({name[start:].partition("/")[0] for name in self._names(path) if "/" in name[start:]})

    def files(self, path: str, *, hidden: bool = False) -> dict[str, int]:
        start = len(path) + 1 if path else 0
        names = [name for name in self._names(path) if hidden or not name.rpartition("/")[2].startswith(".")]
        return {name[start:]: size for name, size in self._sizes(names).items()}

    def temporaries(self, path: str) -> dict[str, float]:
        return {}

    def _names(self, path: str) -> list[str]:
        # Ids are percent-encoded, so no path has a character that means something in a pattern. SCAN may repeat itself.
        found = self.client.scan_iter(match=f"{path}/*" if path else "*", count=_MOST_LISTED)
        return sorted({name.decode(errors="replace") for name in found})

    def _sizes(self, paths: Sequence[str]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for some in _batches(paths):
            with self.client.pipeline(transaction=False) as pipeline:
                for path in some:
                    pipeline.strlen(path)
                # What is under a name of somebody else may have another type.
                found = pipeline.execute(raise_on_error=False)
            sizes.update({path: size for path, size in zip(some, found, strict=True) if isinstance(size, int)})
        return sizes


def _by_rows(path: str, data: Buffer) -> Buffer:
    if is_table(data):
        with suppress(CorruptObjectError):  # who reads it shall see what is wrong with it
            return RoundMetadata.load(data, path).dump_json()
    return data


def _batches(items: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), _MOST_LISTED):
        yield items[start : start + _MOST_LISTED]
