"""Whole files below a root: what the object store needs of a file system, and the two ways to get it.

Both leave errors as the ``OSError`` (or the client library's error) that they are; the object store says what they
mean. Paths are relative to the root, with ``/`` between their parts.
"""

from __future__ import annotations

import errno
import os
import threading
import uuid
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from flstore.tensors import Buffer, aligned_empty, as_bytes

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_NO_CONDITIONS = {"NotImplemented", "501"}


class Files(Protocol):
    """A root with files that appear whole or not at all."""

    def create(self, path: str, data: Buffer) -> None:
        """Write a new file; ``FileExistsError`` when the name is taken, and then nothing changes."""
        ...

    def replace(self, path: str, data: Buffer) -> None:
        """Write a file, new or not."""
        ...

    def read(self, path: str, size: int | None = None) -> Buffer:
        """The file, or its first `size` bytes."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file."""
        ...

    def folders(self, path: str) -> list[str]:
        """Names of the folders in a folder; none when it does not exist."""
        ...

    def files(self, path: str) -> dict[str, int]:
        """Bytes of every file below a folder, by its path from there; none when the folder does not exist."""
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

    def read(self, path: str, size: int | None = None) -> Buffer:
        with open(self.root / path, "rb", buffering=0) as file:
            if size is not None:
                return file.read(size)
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

    def folders(self, path: str) -> list[str]:
        try:
            with os.scandir(self.root / path) as entries:
                return [entry.name for entry in entries if entry.is_dir()]
        except FileNotFoundError:
            return []

    def files(self, path: str) -> dict[str, int]:
        found: dict[str, int] = {}
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self.root / path / folder) as entries:
                    for entry in entries:
                        if entry.is_dir():
                            waiting.append(f"{folder}{entry.name}/")
                        elif not entry.name.startswith("."):
                            found[folder + entry.name] = entry.stat().st_size
            except FileNotFoundError:
                continue
        return found


class RemoteFiles:
    """Files on any fsspec file system whose writes appear whole: S3 and its like, and memory."""

    def __init__(self, fs: Any, root: str) -> None:
        self.fs = fs
        self.root = root.rstrip("/")
        # s3fs would ask for the size first and then read in chunks: two requests and more, where one is faster.
        self._whole = {"max_concurrency": 1} if "s3" in protocols(fs) else {}
        # In memory, fsspec looks and then writes.
        self._create_guard = threading.Lock() if "memory" in protocols(fs) else nullcontext()

    def create(self, path: str, data: Buffer) -> None:
        try:
            with self._create_guard:
                self.fs.pipe_file(self._at(path), bytes(data), mode="create")
        except OSError as exc:
            code = s3_code(exc)
            if code in _TAKEN:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from exc
            if code not in _NO_CONDITIONS:
                raise
            self.replace(path, data)

    def replace(self, path: str, data: Buffer) -> None:
        self.fs.pipe_file(self._at(path), bytes(data))

    def read(self, path: str, size: int | None = None) -> Buffer:
        if size is None:
            whole: bytes = self.fs.cat_file(self._at(path), **self._whole)
            return whole
        head: bytes = self.fs.cat_file(self._at(path), start=0, end=size)
        # Some servers ignore ranges and send all.
        return head[:size]

    def exists(self, path: str) -> bool:
        # Not `fs.exists`, which takes every error for an absence.
        try:
            return bool(self.fs.info(self._at(path))["type"] == "file")
        except FileNotFoundError as exc:
            _raise_missing_bucket(exc)
            return False

    def remove(self, path: str) -> None:
        self.fs.rm_file(self._at(path))

    def folders(self, path: str) -> list[str]:
        try:
            entries = self.fs.ls(self._at(path), detail=True)
        except FileNotFoundError as exc:
            _raise_missing_bucket(exc)
            return []
        return [e["name"].rstrip("/").rsplit("/", 1)[-1] for e in entries if e["type"] == "directory"]

    def files(self, path: str) -> dict[str, int]:
        start = len(self._at(path)) + 1
        try:
            entries = self.fs.find(self._at(path), detail=True)
        except FileNotFoundError as exc:
            _raise_missing_bucket(exc)
            return {}
        return {name[start:]: int(entry["size"]) for name, entry in entries.items()}

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root


def s3_code(exc: BaseException) -> str:
    """The server's error code behind an exception of s3fs, or an empty string."""
    response = getattr(exc.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _raise_missing_bucket(exc: FileNotFoundError) -> None:
    if s3_code(exc) == "NoSuchBucket":
        raise exc


def protocols(fs: Any) -> tuple[str, ...]:
    """The names that a file system goes by."""
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
