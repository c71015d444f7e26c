"""A Redis server in front of a persistent store: both are written, the server is read first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flstore.baselines.forwarding import Forwarding
from flstore.baselines.redis_files import RedisFiles
from flstore.persistence.files import Files
from flstore.persistence.threads import concurrently
from flstore.tensors import Buffer

_THREADS = 8


class BackedFiles(Forwarding):
    """Files of which the persistent store has all, and Redis as many as it has room for.

    Parameters
    ----------
    front, back : files
        Redis, and the persistent store.
    try_to : callable
        Calls what it is given, and tells the user if Redis had no room; returns whether it had.
    """

    def __init__(self, front: RedisFiles, back: Files, try_to: Callable[[Callable[[], None]], bool]) -> None:
        super().__init__(back)
        self.front, self.back, self._try_to = front, back, try_to

    def create(self, path: str, data: Buffer) -> None:
        self.back.create(path, data)
        self._to_front(path, data)

    def replace(self, path: str, data: Buffer) -> None:
        self.back.replace(path, data)
        self._to_front(path, data)

    def _to_front(self, path: str, data: Buffer) -> None:
        if not self._try_to(lambda: self.front.replace(path, data)):
            self.front.remove_all([path])  # it may be what was there before

    def read(self, path: str, size: int | None = None, start: int = 0) -> Buffer:
        if size is not None:
            return self.back.read(path, size, start)
        try:
            return self.front.read(path)
        except FileNotFoundError:
            data = self.back.read(path)
            self._to_front(path, data)
            return data

    def read_many(self, paths: Sequence[str]) -> tuple[list[Buffer | None], set[str]]:
        """The values of all, None for what is nowhere, and what of them Redis did not have."""
        found: list[Buffer | None] = list(self.front.read_many(paths))
        missed = [path for path, value in zip(paths, found, strict=True) if value is None]
        behind = dict(zip(missed, concurrently(self._read_behind, missed, _THREADS), strict=True))
        for path, data in behind.items():  # one at a time: what is on its way takes memory of Redis, too
            if data is not None:
                self._to_front(path, data)
        return [behind[path] if value is None else value for path, value in zip(paths, found, strict=True)], {*missed}

    def _read_behind(self, path: str) -> Buffer | None:
        try:
            return self.back.read(path)
        except FileNotFoundError:
            return None

    def remove(self, path: str) -> None:
        self.back.remove(path)
        self.front.remove_all([path])

    def remove_all(self, paths: Iterable[str]) -> dict[str, int]:
        paths = list(paths)
        removed = self.back.remove_all(paths)
        self.front.remove_all(paths)
        return removed
