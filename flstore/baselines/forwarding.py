"""Files that stand in front of others."""

from __future__ import annotations

from collections.abc import Iterable

from flstore.persistence.files import Files
from flstore.tensors import Buffer


class Forwarding:
    """Passes everything on to the files behind it; the base of those that do something else with some of it.

    Parameters
    ----------
    inner : files
        Those behind it.
    """

    def __init__(self, inner: Files) -> None:
        self.inner = inner

    def create(self, path: str, data: Buffer) -> None:
        self.inner.create(path, data)

    def replace(self, path: str, data: Buffer) -> None:
        self.inner.replace(path, data)

    def read(self, path: str, size: int | None = None, start: int = 0) -> Buffer:
        return self.inner.read(path, size, start)

    def exists(self, path: str) -> bool:
        return self.inner.exists(path)

    def remove(self, path: str) -> None:
        self.inner.remove(path)

    def remove_all(self, paths: Iterable[str]) -> dict[str, int]:
        return self.inner.remove_all(paths)

    def prune(self, path: str) -> None:
        self.inner.prune(path)

    def folders(self, path: str) -> list[str]:
        return self.inner.folders(path)

    def files(self, path: str, *, hidden: bool = False) -> dict[str, int]:
        return self.inner.files(path, hidden=hidden)

    def temporaries(self, path: str) -> dict[str, float]:
        return self.inner.temporaries(path)
