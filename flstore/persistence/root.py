"""A root: a place on some file system below which files lie, opened by its name and without its secrets."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fsspec.core
from fsspec.implementations.local import LocalFileSystem

from flstore.errors import (
    FLStoreError,
    InvalidParameterError,
    OptionalDependencyError,
    StoreError,
    UpdateNotFoundError,
)
from flstore.persistence.again import again, s3_options
from flstore.persistence.files import Files, LocalFiles
from flstore.persistence.redaction import Redaction
from flstore.persistence.remote_files import RemoteFiles, protocols, s3_code
from flstore.types import Key

_CLIENT_LIBRARIES = {"aiobotocore", "aiohttp", "botocore", "fsspec", "s3fs"}
DAY_S = 86_400.0


class Root:
    """What is true of a root whatever lies below it. Safe to use from many threads.

    Parameters
    ----------
    root, storage_options, fsync
        See :class:`flstore.persistence.ObjectStore`.
    """

    def __init__(
        self, root: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None, *, fsync: bool = False
    ) -> None:
        root, options = os.fspath(root), dict(storage_options or {})
        self._redaction = Redaction(options)
        self._shown = self._redaction(root)
        self._spec: dict[str, Any] = {"root": root, "storage_options": options, "fsync": fsync}
        self.is_local_memory = False
        self._files: Files = self._open_files(root, options, fsync)

    def _open_files(self, root: str, options: dict[str, Any], fsync: bool) -> Files:
        """The files below a root; a store that keeps its objects in another way has others."""
        fs, path = _open(root, options, self._shown)
        self.is_local_memory = "memory" in protocols(fs)
        if not isinstance(fs, LocalFileSystem):
            return RemoteFiles(fs, path)
        self._spec["root"] = path  # a worker that rebuilds this store may run in another folder
        return LocalFiles(path, fsync=fsync)

    @property
    def root(self) -> str:
        """Where the objects are, without secrets."""
        return self._shown

    @property
    def spec(self) -> dict[str, Any]:
        """``ObjectStore(**spec)`` is this store in another process. Holds the secrets of `storage_options`."""
        return dict(self._spec)

    def check_writable(self) -> None:
        """Write and delete a small hidden file; ``StoreError`` names the root when that fails."""
        probe = f".flstore-{uuid.uuid4().hex}.tmp"
        with self._meaning("write"):
            self._files.create(probe, b"writable")
            self._files.remove(probe)

    def files(self, below: str = "") -> dict[str, int]:
        """Bytes of every file below a folder of the root, by its path from the root: hidden ones and strays too."""
        with self._meaning("list files"):
            found = again(self._files.files)(below, hidden=True)
        return {f"{below}/{name}": size for name, size in found.items()} if below else found

    def clean_temporaries(self, older_than_s: float = DAY_S) -> dict[str, int]:
        """Delete the hidden files that killed writers left unfinished; S3 and memory have none.

        A file that was written to in the last `older_than_s` seconds may belong to a writer at work, and stays.

        Parameters
        ----------
        older_than_s : float, default one day
            Longer than a living writer can be held up in the middle of an object.

        Returns
        -------
        dict of str to int
            Bytes of what was deleted, by its path below the root.

        Raises
        ------
        InvalidParameterError
            An age that is negative or NaN.
        StoreError
            Something could not be listed or deleted. May be repeated.
        """
        if math.isnan(older_than_s) or older_than_s < 0:
            raise InvalidParameterError(f"older_than_s is a number of seconds from 0 on, not {older_than_s!r}")
        return self._remove_temporaries("", lambda _, age_s: age_s > older_than_s)

    def _remove_temporaries(self, below: str, chosen: Callable[[str, float], bool]) -> dict[str, int]:
        """Delete the unfinished files for which `chosen` (path, seconds since the last write) is true."""
        with self._meaning("delete temporary files"):
            paths = [path for path, age_s in self._files.temporaries(below).items() if chosen(path, age_s)]
            removed = self._files.remove_all(paths)
            for folder in {os.path.dirname(path) for path in paths}:
                self._files.prune(folder)
        return removed

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.root!r})"

    @contextmanager
    def _meaning(self, doing: str, absent: Key | None = None) -> Iterator[None]:
        """Turn what a file system raises into errors of ours, without secrets."""
        try:
            yield
        except FLStoreError:
            raise
        except Exception as exc:
            if absent and isinstance(exc, FileNotFoundError) and s3_code(exc) != "NoSuchBucket":
                raise UpdateNotFoundError(f"there is no {absent} below {self.root}") from exc
            if not isinstance(exc, OSError) and type(exc).__module__.split(".")[0] not in _CLIENT_LIBRARIES:
                raise
            notes = "".join(f" ({note})" for note in getattr(exc, "__notes__", ()))
            said = self._redaction(f"{type(exc).__name__}: {exc}{notes}")
            raise StoreError(f"cannot {doing} below {self.root}: {said}") from exc


def _open(root: str, options: dict[str, Any], shown: str) -> tuple[Any, str]:
    if not root:
        raise InvalidParameterError(
            "the root of a store cannot be empty; use a folder or a URL like s3://bucket/prefix"
        )
    # Writers in other processes would stay unseen behind a cache of listings.
    uncached = {} if "://" not in root or root.startswith(("file:", "local:")) else {"use_listings_cache": False}
    is_s3 = root.startswith(("s3://", "s3a://"))
    if is_s3:
        options = s3_options(options)
    try:
        fs, path = fsspec.core.url_to_fs(root, **{**uncached, **options})
    except ImportError as exc:
        if is_s3:
            raise OptionalDependencyError.of("s3fs", "s3", f"a store on {shown}") from exc
        raise OptionalDependencyError(f"a store on {shown}: {exc}") from exc
    except ValueError as exc:
        raise InvalidParameterError(f"no store can be opened on {shown}: {exc}") from exc
    if not path.strip("/") and root.startswith("s3"):
        raise InvalidParameterError(f"{shown} names no bucket; use s3://bucket/prefix")
    if is_s3:
        fs.retries = 1  # of its five on top of the client library's, which nobody would wait for
    return fs, path
