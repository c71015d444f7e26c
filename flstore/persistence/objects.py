"""Objects by key below a root: put, get, list and delete, the same on a file system, in memory and in an S3 bucket.

The listing is the truth; there is no catalogue that could disagree with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flstore.codec import CHECKSUM_PREFIX_BYTES, checksum_of, decode
from flstore.errors import CorruptObjectError, InvalidParameterError, UpdateExistsError, UpdateNotFoundError
from flstore.persistence import layout
from flstore.persistence.again import again
from flstore.persistence.documents import Documents
from flstore.persistence.remote_files import s3_code
from flstore.persistence.temporaries import may_be_of
from flstore.persistence.threads import concurrently
from flstore.tensors import Buffer, as_bytes
from flstore.types import Key, Kind

_LISTERS = 16


class ObjectStore(Documents):
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
            if stored == mine and as_bytes(self._files.read(path)).nbytes != as_bytes(data).nbytes:
                self._files.replace(path, data)  # the beginning of this very object: an earlier write of it was torn
                return True
        if stored != mine:
            raise UpdateExistsError(
                f"another {key} is stored below {self.root} (checksum {stored}, the new one has {mine}); "
                "updates are never overwritten: use another job, round or client id"
            )
        return False

    def heal(self, key: Key, data: Buffer) -> bool:
        """Store a whole copy of an object in place of a damaged or missing one; a whole object is never replaced.

        Returns
        -------
        bool
            False when the stored object is whole: it stays as it is, whatever the copy is.

        Raises
        ------
        CorruptObjectError
            The copy itself is not whole. Nothing changed.
        StoreError
            Nothing changed. May be retried.
        """
        path = self._path(key)
        decode(data, key=key)
        with self._meaning(f"heal {key}"):
            stored = self._stored(path)
            if stored is None:
                try:
                    self._files.create(path, data)
                    return True
                except FileExistsError:
                    stored = self._files.read(path)
            if is_whole(key, stored):
                return False
            self._files.replace(path, data)
            return True

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
            return again(self._files.read)(path)

    def get_range(self, key: Key, start: int, size: int) -> Buffer:
        """At most `size` bytes of an object from `start` on, unverified; raises as :meth:`get`."""
        path = self._path(key)
        with self._meaning(f"read {key}", absent=key):
            return self._files.read(path, size, start)

    def get_many(self, keys: Iterable[Key], concurrency: int = 8) -> dict[Key, Buffer]:
        """Read objects, `concurrency` at a time; raises as :meth:`get`, for the first that fails."""
        wanted = list(dict.fromkeys(keys))
        return dict(zip(wanted, concurrently(self.get, wanted, concurrency), strict=True))

    def exists(self, key: Key) -> bool:
        """Whether the object (or, for METADATA, any metadata of its round) is stored."""
        with self._meaning(f"look for {key}"):
            there = self._files.exists(layout.object_path(key))
            if not there and key.kind is Kind.METADATA:
                there = self._files.exists(layout.old_metadata_path(key.job, key.round))
            return there

    def checksum(self, key: Key) -> str:
        """The checksum that a stored object claims, from its first bytes; raises as :meth:`get`."""
        path = self._path(key)
        with self._meaning(f"read {key}", absent=key):
            claimed = again(self._claimed)(path, key)
        if claimed is None:
            raise UpdateNotFoundError(f"there is no {key} below {self.root}")
        return claimed

    def jobs(self) -> list[str]:
        """Jobs that have a folder, sorted."""
        with self._meaning("list jobs"):
            return sorted(job for name in again(self._files.folders)("") if (job := layout.parse_job(name)) is not None)

    def rounds(self, job: str) -> list[int]:
        """Rounds that have a folder, ascending: one listing, whatever they hold (:meth:`listing` says what)."""
        path = layout.job_path(job)
        with self._meaning(f"list the rounds of job {job!r}"):
            return sorted(r for name in again(self._files.folders)(path) if (r := layout.parse_round(name)) is not None)

    def clients(self, job: str, round: int) -> dict[str, int]:
        """Bytes of every client's update in `round`, sorted by client; empty when there is none."""
        return self._contents(job, round, "/update")[0]

    def contents(self, job: str, round: int) -> tuple[dict[str, int], int | None, bool]:
        """What a round has: bytes by client, bytes of the aggregate or None, whether it has metadata."""
        return self._contents(job, round)

    def listing(self, job: str) -> Iterator[tuple[int, dict[str, int], int | None, bool]]:
        """Everything that a job has: (round, bytes by client, bytes of the aggregate or None, has metadata).

        Rounds come in order, are listed several at a time, and are left out when nothing whole is in them.
        """
        rounds = self.rounds(job)
        found = concurrently(lambda r: self._contents(job, r), rounds, _LISTERS)
        for r, (clients, aggregate, has_metadata) in zip(rounds, found, strict=True):
            if clients or aggregate is not None or has_metadata:
                yield r, clients, aggregate, has_metadata

    def delete(self, keys: Iterable[Key]) -> dict[Key, int]:
        """Delete updates and aggregates; what is not there is passed over, so a call may be repeated.

        Local folders that this leaves empty go too. A bucket that keeps versions keeps the old ones.

        Returns
        -------
        dict of Key to int
            Bytes of what was deleted.

        Raises
        ------
        InvalidParameterError
            A METADATA key: see :meth:`delete_metadata`. Nothing was deleted.
        StoreError
            Some may be deleted and some not. May be repeated.
        """
        paths = {self._path(key): key for key in keys}
        with self._meaning(f"delete {len(paths)} objects"):
            removed = self._files.remove_all(paths)
            for folder in {f"{layout.round_path(key.job, key.round)}/update" for key in paths.values()}:
                self._files.prune(folder)
        return {paths[path]: size for path, size in removed.items()}

    def delete_temporaries(self, job: str, round: int, client: str | None = None) -> dict[str, int]:
        """Delete what killed writers left unfinished in a round, of one client or of all; bytes by path.

        Unlike :meth:`clean_temporaries` this asks no file for its age: a writer at work on one of them fails and may
        try again.
        """
        folder = layout.round_path(job, round)

        def chosen(path: str, age_s: float) -> bool:
            try:
                return client is None or may_be_of(client, self._files.read(path))
            except FileNotFoundError:
                return False

        return self._remove_temporaries(folder, chosen)

    def _path(self, key: Key) -> str:
        if key.kind is Kind.METADATA:
            raise InvalidParameterError(
                f"{key} is one row of a document: use put_metadata, get_metadata and delete_metadata"
            )
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

    def _contents(self, job: str, round: int, below: str = "") -> tuple[dict[str, int], int | None, bool]:
        folder = layout.round_path(job, round) + below
        with self._meaning(f"list round {round} of job {job!r}"):
            files = again(self._files.files)(folder)
        found = {key: size for name, size in files.items() if (key := layout.parse_path(f"{folder}/{name}"))}
        clients = {str(k.client): size for k, size in found.items() if k.kind is Kind.UPDATE}
        aggregate = found.get(Key(job, Kind.AGGREGATE, round))
        return dict(sorted(clients.items())), aggregate, Key(job, Kind.METADATA, round) in found


def is_whole(key: Key, stored: Buffer) -> bool:
    """Whether bytes are an object that was written under `key`."""
    try:
        decode(stored, key=key)
    except CorruptObjectError:
        return False
    return True
