"""Whole files below a root: what the object store needs of a file system, and how a local one does it.

Errors stay the ``OSError`` (or the client library's error) that they are; the object store says what they mean. Paths
are relative to the root, with ``/`` between their parts.
"""

from __future__ import annotations

import errno
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from flstore.persistence.layout import is_temporary
from flstore.tensors import Buffer, aligned_empty, as_bytes

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Files(Protocol):
    """A root with files that appear whole or not at all."""

    def create(self, path: str, data: Buffer) -> None:
        """Write a new file; ``FileExistsError`` when the name is taken, and then nothing changes."""
        ...

    def replace(self, path: str, data: Buffer) -> None:
        """Write a file, new or not."""
        ...

    def read(self, path: str, size: int | None = None, start: int = 0) -> Buffer:
        """The file, or at most `size` bytes of it from `start` on."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file."""
        ...

    def remove_all(self, paths: Iterable[str]) -> dict[str, int]:
        """Delete files; bytes of those that were there."""
        ...

    def prune(self, path: str) -> None:
        """Delete a folder and those around it, as long as nothing is in them; the root stays."""
        ...

    def folders(self, path: str) -> list[str]:
        """Names of the folders in a folder; none when it does not exist."""
        ...

    def files(self, path: str, *, hidden: bool = False) -> dict[str, int]:
        """Bytes of every file below a folder, by its path from there; none when the folder does not exist."""
        ...

    def temporaries(self, path: str) -> dict[str, float]:
        """Seconds since the last write to each file below a folder that is not whole yet, by its path from the root."""
        ...


class LocalFiles:
    """A folder on this machine. A file is written beside its place under a hidden name, and linked when it is whole."""

    def __init__(self, root: str, *, fsync: bool = False) -> None:
        self.root = Path(root)
        self._fsync = fsync

    def create(self, path: str, data: Buffer) -> None:
        target = self.root / path
        temporary = self._write_beside(target, data)
        try:
            os.link(temporary, target)
        except OSError as exc:
            # Some network and removable file systems have no links; there a check must do.
            if exc.errno not in _NO_LINKS:
                raise
            if target.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        self._sync_folders(target)

    def replace(self, path: str, data: Buffer) -> None:
        target = self.root / path
        temporary = self._write_beside(target, data)
        try:
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        self._sync_folders(target)

    def _write_beside(self, target: Path, data: Buffer) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{uuid.uuid4().hex}.tmp"
        try:
            with open(temporary, "xb", buffering=0) as file:
                rest = as_bytes(data)
                while rest.nbytes:
                    rest = rest[file.write(rest) :]
                if self._fsync:
                    os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _sync_folders(self, target: Path) -> None:
        if not self._fsync:
            return
        for folder in target.parents:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            if folder == self.root:
                break

    def read(self, path: str, size: int | None = None, start: int = 0) -> Buffer:
        with open(self.root / path, "rb", buffering=0) as file:
            if size is not None:
                return os.pread(file.fileno(), size, start)
            whole = aligned_empty(os.fstat(file.fileno()).st_size).data
            at = 0
            while at < whole.nbytes and (count := file.readinto(whole[at:])):
                at += count
            return whole[:at].toreadonly()

    def exists(self, path: str) -> bool:
        try:
            (self.root / path).stat()
        except FileNotFoundError:
            return False
        return True

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def remove_all(self, paths: Iterable[str]) -> dict[str, int]:
        removed: dict[str, int] = {}
        for path in paths:
            try:
                size = (self.root / path).stat().st_size
                self.remove(path)
            except FileNotFoundError:
                continue
            removed[path] = size
        for folder in {(self.root / path).parent for path in removed}:
            self._sync_folders(folder / "any")
        return removed

    def prune(self, path: str) -> None:
        folder = self.root / path
        while folder != self.root:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # not empty, as a rule; and an empty folder that stays does no harm
                break
            folder = folder.parent
        if folder.exists():
            self._sync_folders(folder / "any")

    def folders(self, path: str) -> list[str]:
        try:
            with os.scandir(self.root / path) as entries:
                return [entry.name for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return []

    def files(self, path: str, *, hidden: bool = False) -> dict[str, int]:
        found: dict[str, int] = {}
        for name, entry in self._walk(path):
            if hidden or not entry.name.startswith("."):
                # What is removed meanwhile must not end the listing.
                with suppress(FileNotFoundError):
                    found[name] = entry.stat().st_size
        return found

    def temporaries(self, path: str) -> dict[str, float]:
        below = f"{path}/" if path else ""
        written: dict[str, float] = {}
        for name, entry in self._walk(path):
            if is_temporary(below + name):
                with suppress(FileNotFoundError):
                    written[below + name] = entry.stat().st_mtime
        if not written:
            return {}
        # The clock of a file server may differ from ours. Nothing is written, because the disk may be full.
        with tempfile.TemporaryFile(dir=self.root) as now:
            now_s = os.fstat(now.fileno()).st_mtime
        return {name: now_s - at for name, at in written.items()}

    def _walk(self, path: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self.root / path / folder) as entries:
                    for entry in entries:
                        if entry.is_dir():
                            waiting.append(f"{folder}{entry.name}/")
                        else:
                            yield folder + entry.name, entry
            except FileNotFoundError:
                continue
