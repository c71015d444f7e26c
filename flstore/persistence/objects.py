"""Objects by key below a root: put, get and list, the same on a file system, in memory and in an S3 bucket.

The listing is the truth; there is no catalogue that could disagree with it.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import fsspec.core
from fsspec.implementations.local import LocalFileSystem

from flstore.codec import CHECKSUM_PREFIX_BYTES, checksum_of
from flstore.errors import (
    CorruptObjectError,
    FLStoreError,
    InvalidParameterError,
    OptionalDependencyError,
    StoreError,
    UpdateExistsError,
    UpdateNotFoundError,
)
from flstore.persistence import layout
from flstore.persistence.files import Files, LocalFiles, RemoteFiles, protocols, s3_code
from flstore.persistence.metadata import RoundMetadata
from flstore.persistence.redaction import Redaction
from flstore.tensors import Buffer
from flstore.types import Key, Kind

_CLIENT_LIBRARIES = {"aiobotocore", "aiohttp", "botocore", "fsspec", "s3fs"}
_LISTERS = 16

In = TypeVar("In")
Out = TypeVar("Out")


class ObjectStore:
    """The persistent store. Safe to use from many threads; one process writes a job's metadata.

    Parameters
    ----------
    root : str
        A folder, or a URL that fsspec knows: ``file://``, ``memory://`` (this process only), ``s3://bucket/prefix``.
    storage_options : mapping, optional
        For fsspec: endpoint, credentials and the like. Shown in no message and no repr.
    fsync : bool
        Local files survive a power loss, not only a killed process. Slower.

    Raises
    ------
    InvalidParameterError
        A root that is empty, or of a protocol that fsspec does not know.
    OptionalDependencyError
        The root is on S3 and s3fs is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from flstore.codec import decode, encode
    >>> objects = ObjectStore("memory://example")
    >>> key = Key("demo", Kind.UPDATE, 3, "7")
    >>> objects.put(key, encode(key, {"w": np.ones(4)}))
    True
    >>> decode(objects.get(key), key=key)["w"].sum(), objects.rounds("demo")
    (np.float64(4.0), [3])
    """

    def __init__(
        self, root: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None, *, fsync: bool = False
    ) -> None:
        root, options = os.fspath(root), dict(storage_options or {})
        self._redaction = Redaction(options)
        self._shown = self._redaction(root)
        fs, path = _open(root, options, self._shown)
        is_local = isinstance(fs, LocalFileSystem)
        # A worker that rebuilds this store may run in another folder.
        self._spec: dict[str, Any] = {"root": path if is_local else root, "storage_options": options, "fsync": fsync}
        self._files: Files = LocalFiles(path, fsync=fsync) if is_local else RemoteFiles(fs, path)
        self._metadata_lock = threading.Lock()
        self.is_local_memory = "memory" in protocols(fs)

    @property
    def root(self) -> str:
        """Where the objects are, without secrets."""
        return self._shown

    @property
    def spec(self) -> dict[str, Any]:
        """``ObjectStore(**spec)`` is this store in another process. Holds the secrets of `storage_options`."""
        return dict(self._spec)

    def put(self, key: Key, data: Buffer) -> bool:
        """Store an encoded object; it becomes visible when it is whole.

        Returns
        -------
        bool
            False when the same object is there already.

        Raises
        ------
        UpdateExistsError
            Another object has this key; it stays as it is. Under a race this is certain for files, and on S3 where the
            server honours ``If-None-Match``.
        StoreError
            Nothing was stored. May be retried.
        """
        path, mine = self._path(key), checksum_of(data)
        with self._meaning(f"write {key}"):
            stored = self._claimed(path, key)
            if stored is None:
                try:
                    self._files.create(path, data)
                    return True
                except FileExistsError:
                    stored = self._claimed(path, key)
        if stored != mine:
            raise UpdateExistsError(
                f"another {key} is stored below {self.root} (checksum {stored}, the new one has {mine}); "
                "updates are never overwritten: use another job, round or client id"
            )
        return False

    def get(self, key: Key) -> Buffer:
        """The bytes of an object, as they are stored: verify them with :func:`flstore.codec.decode`.

        Raises
        ------
        UpdateNotFoundError
            No such object.
        StoreError
            It could not be read. May be retried.
        """
        path = self._path(key)
        with self._meaning(f"read {key}", absent=key):
            return self._files.read(path)

    def get_many(self, keys: Iterable[Key], concurrency: int = 8) -> dict[Key, Buffer]:
        """Read objects, `concurrency` at a time; raises as :meth:`get`, for the first that fails."""
        wanted = list(dict.fromkeys(keys))
        return dict(zip(wanted, _concurrently(self.get, wanted, concurrency), strict=True))

    def exists(self, key: Key) -> bool:
        """Whether the object (or, for METADATA, any metadata of its round) is stored."""
        with self._meaning(f"look for {key}"):
            return self._files.exists(layout.object_path(key))

    def checksum(self, key: Key) -> str:
        """The checksum that a stored object claims, from its first bytes; raises as :meth:`get`."""
        path = self._path(key)
        with self._meaning(f"read {key}", absent=key):
            claimed = self._claimed(path, key)
        if claimed is None:
            raise UpdateNotFoundError(f"there is no {key} below {self.root}")
        return claimed

    def jobs(self) -> list[str]:
        """Jobs that have a folder, sorted."""
        with self._meaning("list jobs"):
            return sorted(job for name in self._files.folders("") if (job := layout.parse_job(name)) is not None)

    def rounds(self, job: str) -> list[int]:
        """Rounds that have a folder, ascending: one listing, whatever they hold (:meth:`listing` says what)."""
        path = layout.job_path(job)
        with self._meaning(f"list the rounds of job {job!r}"):
            return sorted(r for name in self._files.folders(path) if (r := layout.parse_round(name)) is not None)

    def clients(self, job: str, round: int) -> dict[str, int]:
        """Bytes of every client's update in `round`, sorted by client; empty when there is none."""
        return self._round(job, round, "/update")[0]

    def listing(self, job: str) -> Iterator[tuple[int, dict[str, int], int | None, bool]]:
        """Everything that a job has: (round, bytes by client, bytes of the aggregate or None, has metadata).

        Rounds come in order, are listed several at a time, and are left out when nothing whole is in them.
        """
        rounds = self.rounds(job)
        found = _concurrently(lambda r: self._round(job, r), rounds, _LISTERS)
        for r, (clients, aggregate, has_metadata) in zip(rounds, found, strict=True):
            if clients or aggregate is not None or has_metadata:
                yield r, clients, aggregate, has_metadata

    def put_metadata(
        self, job: str, round: int, rows: Mapping[str, Mapping[str, Any]], server: Mapping[str, Any] | None = None
    ) -> None:
        """Merge fields into what is known about a round, by client and field; the document is replaced whole.

        Raises
        ------
        InvalidUpdateError
            A value that JSON cannot hold. NumPy scalars, NaN and infinities can be.
        StoreError
            Nothing changed. May be retried.
        """
        newer = RoundMetadata.of(rows, server)
        path = layout.metadata_path(job, round)
        with self._metadata_lock, self._meaning(f"write the metadata of round {round} of job {job!r}"):
            document = self._metadata(path)
            document.merge(newer)
            self._files.replace(path, document.dump())

    def get_metadata(self, job: str, round: int) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Fields by client and fields of the server; both empty when nothing is stored."""
        path = layout.metadata_path(job, round)
        with self._meaning(f"read the metadata of round {round} of job {job!r}"):
            document = self._metadata(path)
        return document.rows, document.server

    def check_writable(self) -> None:
        """Write and delete a small hidden file; ``StoreError`` names the root when that fails."""
        probe = f".flstore-{uuid.uuid4().hex}.tmp"
        with self._meaning("write"):
            self._files.create(probe, b"writable")
            self._files.remove(probe)

    def __repr__(self) -> str:
        return f"ObjectStore({self.root!r})"

    def _path(self, key: Key) -> str:
        if key.kind is Kind.METADATA:
            raise InvalidParameterError(f"{key} is one row of a document: use put_metadata and get_metadata")
        return layout.object_path(key)

    def _claimed(self, path: str, key: Key) -> str | None:
        """The stored checksum, or None when nothing is stored."""
        try:
            return checksum_of(self._files.read(path, CHECKSUM_PREFIX_BYTES))
        except FileNotFoundError as exc:
            if s3_code(exc) == "NoSuchBucket":
                raise
            return None
        except CorruptObjectError as exc:
            raise CorruptObjectError(f"{key} below {self.root}: {exc}") from exc

    def _metadata(self, path: str) -> RoundMetadata:
        try:
            return RoundMetadata.load(self._files.read(path), f"{path} below {self.root}")
        except FileNotFoundError as exc:
            if s3_code(exc) == "NoSuchBucket":
                raise
            return RoundMetadata()

    def _round(self, job: str, round: int, below: str = "") -> tuple[dict[str, int], int | None, bool]:
        folder = layout.round_path(job, round) + below
        with self._meaning(f"list round {round} of job {job!r}"):
            files = self._files.files(folder)
        found = {key: size for name, size in files.items() if (key := layout.parse_path(f"{folder}/{name}"))}
        clients = {str(k.client): size for k, size in found.items() if k.kind is Kind.UPDATE}
        aggregate = found.get(Key(job, Kind.AGGREGATE, round))
        return dict(sorted(clients.items())), aggregate, Key(job, Kind.METADATA, round) in found

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
            said = self._redaction(f"{type(exc).__name__}: {exc}")
            raise StoreError(f"cannot {doing} below {self.root}: {said}") from exc


def _open(root: str, options: dict[str, Any], shown: str) -> tuple[Any, str]:
    if not root:
        raise InvalidParameterError(
            "the root of a store cannot be empty; use a folder or a URL like s3://bucket/prefix"
        )
    # Writers in other processes would stay unseen behind a cache of listings.
    uncached = {} if "://" not in root or root.startswith(("file:", "local:")) else {"use_listings_cache": False}
    try:
        fs, path = fsspec.core.url_to_fs(root, **{**uncached, **options})
    except ImportError as exc:
        if root.startswith(("s3://", "s3a://")):
            raise OptionalDependencyError.of("s3fs", "s3", f"a store on {shown}") from exc
        raise OptionalDependencyError(f"a store on {shown}: {exc}") from exc
    except ValueError as exc:
        raise InvalidParameterError(f"no store can be opened on {shown}: {exc}") from exc
    if not path.strip("/") and root.startswith("s3"):
        raise InvalidParameterError(f"{shown} names no bucket; use s3://bucket/prefix")
    return fs, path


def _concurrently(function: Callable[[In], Out], items: list[In], threads: int) -> Iterator[Out]:
    pool = ThreadPoolExecutor(max_workers=max(1, min(threads, len(items))))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
