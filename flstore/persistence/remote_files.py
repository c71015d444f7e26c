"""Whole files on what fsspec reaches and is no local folder: S3 and its like, and memory."""

from __future__ import annotations

import errno
import os
import posixpath
import threading
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

from flstore.tensors import Buffer

TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
NO_CONDITIONS = {"NotImplemented", "501"}
_MOST_DELETED = 1000
"""Objects that S3 deletes in one request."""
_FEW = 4


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
            if code in TAKEN:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from exc
            if code not in NO_CONDITIONS:
                raise
            self.replace(path, data)

    def replace(self, path: str, data: Buffer) -> None:
        self.fs.pipe_file(self._at(path), bytes(data))

    def read(self, path: str, size: int | None = None, start: int = 0) -> Buffer:
        if size is None:
            whole: bytes = self.fs.cat_file(self._at(path), **self._whole)
            return whole
        some: bytes = self.fs.cat_file(self._at(path), start=start, end=start + size)
        # Some servers ignore ranges and send all.
        return some if len(some) <= size else some[start : start + size]

    def exists(self, path: str) -> bool:
        # Not `fs.exists`, which takes every error for an absence.
        try:
            return bool(self.fs.info(self._at(path))["type"] == "file")
        except FileNotFoundError as exc:
            _raise_missing_bucket(exc)
            return False

    def remove(self, path: str) -> None:
        self.fs.rm_file(self._at(path))

    def remove_all(self, paths: Iterable[str]) -> dict[str, int]:
        removed = self._sizes(paths)
        if "s3" in protocols(self.fs):
            for some in _batches(list(removed), _MOST_DELETED):
                self._remove_batch(some)
        else:
            for path in removed:
                with suppress(FileNotFoundError):
                    self.remove(path)
        return removed

    def _sizes(self, paths: Iterable[str]) -> dict[str, int]:
        """Bytes of the files that are there: one question each for a few in a folder, one listing for many."""
        found: dict[str, int] = {}
        folders: dict[str, list[str]] = {}
        for path in paths:
            folders.setdefault(posixpath.dirname(path), []).append(path)
        for folder, wanted in folders.items():
            if len(wanted) > _FEW:
                listed = {f"{folder}/{name}" if folder else name: size for name, size in self.files(folder).items()}
                found.update({path: listed[path] for path in wanted if path in listed})
                continue
            for path in wanted:
                try:
                    found[path] = int(self.fs.info(self._at(path))["size"])
                except FileNotFoundError as exc:
                    _raise_missing_bucket(exc)
        return found

    def _remove_batch(self, paths: list[str]) -> None:
        # Not `fs.rm`: it passes over what the server refused to delete.
        names = [self.fs.split_path(self._at(path))[:2] for path in paths]
        wanted = {"Objects": [{"Key": name} for _, name in names], "Quiet": True}
        answer = self.fs.call_s3("delete_objects", Bucket=names[0][0], Delete=wanted)
        if refused := answer.get("Errors"):
            first = refused[0]
            said = f"{first.get('Code')} for {first.get('Key')}: {first.get('Message')}"
            raise OSError(errno.EIO, f"the server did not delete {len(refused)} of {len(paths)} objects: {said}")

    def prune(self, path: str) -> None:
        """Nothing to do: a folder is no more than the names in it."""

    def folders(self, path: str) -> list[str]:
        try:
            entries = self.fs.ls(self._at(path), detail=True)
        except FileNotFoundError as exc:
            _raise_missing_bucket(exc)
            return []
        return [e["name"].rstrip("/").rsplit("/", 1)[-1] for e in entries if e["type"] == "directory"]

    def files(self, path: str, *, hidden: bool = False) -> dict[str, int]:
        # Hidden names are always listed: nothing here is written under one but probes.
        start = len(self._at(path)) + 1
        try:
            entries = self.fs.find(self._at(path), detail=True)
        except FileNotFoundError as exc:
            _raise_missing_bucket(exc)
            return {}
        return {name[start:]: int(entry["size"]) for name, entry in entries.items()}

    def temporaries(self, path: str) -> dict[str, float]:
        return {}

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


def _batches(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
