"""Files of this machine without a copy: their bytes are mapped into memory, and read when they are looked at."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from flstore.baselines.forwarding import Forwarding
from flstore.persistence.files import Files
from flstore.persistence.files import LocalFiles as FilesOfThisMachine
from flstore.tensors import Buffer

_CHANGES = ("/metadata.parquet", "/metadata.json")
_TOO_MANY = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class MappedFiles(FilesOfThisMachine):
    """A folder whose files are mapped instead of read. A file that is deleted stays readable where it is mapped."""

    def read(self, path: str, size: int | None = None, start: int = 0) -> Buffer:
        if size is not None:
            return super().read(path, size, start)
        with open(self.root / path, "rb", buffering=0) as file:
            if not os.fstat(file.fileno()).st_size:  # nothing cannot be mapped
                return b""
            try:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            except OSError as error:  # each mapping keeps a file open, and a process may have some thousand
                if error.errno not in _TOO_MANY:
                    raise
        return super().read(path)


class CachedFiles(Forwarding):
    """Files elsewhere, each of which stays in a folder of this machine once it was read, and is mapped from there.

    As fsspec's ``filecache::`` does, it does not ask whether the file has changed meanwhile: updates never do. What
    changes (metadata) is not kept. The folder grows with what is read; it may be deleted at any time.
    """

    def __init__(self, files: Files, folder: str | os.PathLike[str]) -> None:
        super().__init__(files)
        self.copies = MappedFiles(str(Path(folder).expanduser()))

    def read(self, path: str, size: int | None = None, start: int = 0) -> Buffer:
        if size is not None or path.endswith(_CHANGES):
            return self.inner.read(path, size, start)
        with suppress(FileNotFoundError):
            return self.copies.read(path)
        data = self.inner.read(path)
        with suppress(OSError):  # a disk that is full makes it slow, not wrong
            self.copies.replace(path, data)
        return data

    def holds(self, path: str) -> bool:
        """Whether a copy is here."""
        return self.copies.exists(path)

    def forget(self, paths: Iterable[str]) -> None:
        """Drop the copies of files, and of what lies below folders."""
        for path in paths:
            below = [f"{path}/{name}" for name in self.copies.files(path, hidden=True)] if self._is_folder(path) else []
            for folder in {name.rpartition("/")[0] for name in self.copies.remove_all(below or [path])}:
                self.copies.prune(folder)

    def _is_folder(self, path: str) -> bool:
        return (self.copies.root / path).is_dir()

    def replace(self, path: str, data: Buffer) -> None:
        self.forget([path])
        self.inner.replace(path, data)
        self.forget([path])  # another thread may have read the old one meanwhile

    def remove(self, path: str) -> None:
        self.inner.remove(path)
        self.forget([path])

    def remove_all(self, paths: Iterable[str]) -> dict[str, int]:
        paths = list(paths)
        removed = self.inner.remove_all(paths)
        self.forget(paths)
        return removed
