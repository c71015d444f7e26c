"""Objects in a Redis server, perhaps with a persistent store behind it, and what its errors mean."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from flstore.baselines.backed import BackedFiles
from flstore.baselines.redis_files import RedisFiles
from flstore.errors import (
    CapacityError,
    FLStoreError,
    InvalidParameterError,
    OptionalDependencyError,
    StoreError,
    UpdateNotFoundError,
)
from flstore.persistence import ObjectStore, layout
from flstore.persistence.again import again
from flstore.persistence.files import Files
from flstore.persistence.redaction import Redaction
from flstore.persistence.tables import to_table
from flstore.tensors import Buffer
from flstore.types import Key, Kind

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMES = ("unix", "redis", "rediss")
READ_BYTES = 1 << 20
"""Taken from the socket at a time; the client's default is 64 kB."""
_TIMEOUTS_S = {"socket_connect_timeout": 5, "socket_timeout": 15}
_WAY_OUT = (
    "give Redis more memory (CONFIG SET maxmemory) with maxmemory-policy noeviction, delete rounds, or keep the run in "
    "a persistent store behind it (root=...)"
)


class RedisStore(ObjectStore):
    """Objects in Redis. Safe to use from many threads.

    Parameters
    ----------
    url : str
        ``unix:///path``, ``redis://host:port/database`` or ``rediss://...``. Shown without user, password and options.
    client_options : mapping, optional
        For ``redis.Redis.from_url``.
    root, storage_options, fsync
        The persistent store behind it, where there shall be one; see :class:`flstore.persistence.ObjectStore`.
    """

    def __init__(
        self,
        url: str,
        client_options: Mapping[str, Any] | None = None,
        root: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        fsync: bool = False,
    ) -> None:
        self.url = shown(url)
        self.client = _connect(url, self.url, dict(client_options or {}))
        self._secret = Redaction({"password": self.client.connection_pool.connection_kwargs.get("password")})
        self._cache = RedisFiles(self.client)
        self._warned = False
        self.backed = root is not None
        super().__init__(self.url if root is None else root, storage_options, fsync=fsync)
        self._behind = self._redaction(str(self._spec["root"])) if self.backed else ""
        if self.backed:
            self._shown = f"{self.url} and {self._shown}"
        self._spec = {"url": url, "client_options": client_options, "root": root, "storage_options": storage_options}

    def _open_files(self, root: str, options: dict[str, Any], fsync: bool) -> Files:
        return (
            BackedFiles(self._cache, super()._open_files(root, options, fsync), self._try_to)
            if self.backed
            else self._cache
        )

    # --- what Redis says of itself -----------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Ask for an answer; warn when Redis may drop what nobody else has."""
        with self._meaning("reach Redis"):
            memory = self.client.info("memory")
        if self.backed:
            super().check_writable()
        elif memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
            warnings.warn(
                f"Redis at {self.url} drops objects when its {memory['maxmemory']:,} bytes are full (maxmemory-policy "
                f"{memory['maxmemory_policy']}), and nothing else has them; {_WAY_OUT}",
                RuntimeWarning,
                stacklevel=2,
            )

    def claim(self, job: str) -> None:
        """Refuse a job of which Redis has what lies in another root: the answers would be those of that one."""
        mark = f".flstore-root/{layout.job_path(job)}"
        mine = self._behind.encode()
        with self._meaning("ask Redis whose data it has"):
            theirs = self.client.get(mark)
            if theirs is None and self.backed:
                self._try_to(lambda: self._cache.replace(mark, mine))
        if theirs is not None and theirs != mine:
            raise InvalidParameterError(
                f"Redis at {self.url} holds job {job!r} of {theirs.decode(errors='replace')}: use another database "
                f"(?db=1) or job, or FLUSHDB"
            )

    def evicted(self) -> int:
        """How many values Redis has dropped for lack of memory since it was started."""
        with self._meaning("ask Redis what it evicted"):
            return int(self.client.info("stats").get("evicted_keys", 0))

    def lost(self, what: Key | str) -> FLStoreError:
        """Why something that was taken in is not there any more."""
        count = self.evicted()
        if not count:
            return UpdateNotFoundError(f"there is no {what} in {self.root}: it was deleted there, or Redis was emptied")
        return CapacityError(
            f"there is no {what} in {self.root} any more: Redis has evicted {count:,} values for lack of memory "
            f"({self._memory()}); {_WAY_OUT}"
        )

    def _memory(self) -> str:
        import redis

        try:
            memory = self.client.info("memory")
        except redis.RedisError:
            return "its limit is unknown"
        return f"maxmemory {memory.get('maxmemory', 0):,} bytes, policy {memory.get('maxmemory_policy', 'unknown')}"

    def _try_to(self, write: Callable[[], None]) -> bool:
        """Write to a Redis that has a persistent store behind it, and warn once if it has no room."""
        import redis

        try:
            write()
            return True
        except (redis.exceptions.OutOfMemoryError, CapacityError):
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"Redis at {self.url} is full ({self._memory()}); what does not fit is read from the persistent "
                    f"store behind it",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return False

    # --- objects ----------------------------------------------------------------------------------------------------

    def fetch(self, paths: Sequence[str], what: str) -> tuple[dict[str, Buffer], set[str]]:
        """Read many objects in one question.

        Returns
        -------
        dict of str to buffer
            By path; what is nowhere is left out.
        set of str
            Paths that Redis did not have.
        """
        found: Sequence[Buffer | None]
        with self._meaning(f"read {what}"):
            if isinstance(self._files, BackedFiles):
                found, missed = again(self._files.read_many)(paths)
            else:
                found = again(self._cache.read_many)(paths)
                missed = {path for path, value in zip(paths, found, strict=True) if value is None}
        return {path: value for path, value in zip(paths, found, strict=True) if value is not None}, missed

    def get(self, key: Key) -> Buffer:
        """The bytes of an object, as they are stored."""
        try:
            return super().get(key)
        except UpdateNotFoundError as error:
            raise UpdateNotFoundError(str(self.lost(key))) from error

    def get_metadata(self, job: str, round: int) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """As of every object store, and a CapacityError where Redis may have evicted it."""
        rows, server = super().get_metadata(job, round)
        if not rows and not server and not self.backed and self.evicted():
            raise self.lost(f"metadata of round {round} of job {job!r}")
        return rows, server

    def get_metadata_table(self, job: str, round: int) -> pa.Table:
        """As of every object store, and a CapacityError where Redis may have evicted it."""
        return to_table(self.get_metadata(job, round)[0])

    def listing(self, job: str) -> Iterator[tuple[int, dict[str, int], int | None, bool]]:
        """As of every object store; Redis looks through all its names for that once, and not once a round."""
        if self.backed:
            yield from super().listing(job)
            return
        folder = layout.job_path(job)
        with self._meaning(f"list job {job!r}"):
            files = again(self._cache.files)(folder)
        rounds: dict[int, tuple[dict[str, int], dict[Kind, int]]] = {}
        for name, size in files.items():
            key = layout.parse_path(f"{folder}/{name}")
            if key is not None:
                clients, others = rounds.setdefault(key.round, ({}, {}))
                if key.kind is Kind.UPDATE:
                    clients[str(key.client)] = size
                else:
                    others[key.kind] = size
        for round, (clients, others) in sorted(rounds.items()):
            yield round, dict(sorted(clients.items())), others.get(Kind.AGGREGATE), Kind.METADATA in others

    @contextmanager
    def _meaning(self, doing: str, absent: Key | None = None) -> Iterator[None]:
        import redis

        try:
            with super()._meaning(doing, absent):
                yield
        except redis.exceptions.OutOfMemoryError as error:
            raise CapacityError(
                f"cannot {doing} at {self.url}: Redis is full ({self._memory()}); {_WAY_OUT}"
            ) from error
        except redis.RedisError as error:
            said = self._secret(f"{type(error).__name__}: {error}")
            raise StoreError(f"cannot {doing} at {self.url}: {said}; is Redis running there?") from error


def shown(url: str) -> str:
    """A Redis URL without user, password and options.

    Raises
    ------
    InvalidParameterError
        No URL of Redis.

    Examples
    --------
    >>> shown("redis://me:secret@host:6379/2?password=secret")
    'redis://host:6379/2'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidParameterError("the URL of Redis cannot be parsed; it looks like redis://host:port") from None
    if parts.scheme not in SCHEMES:
        # A URL of something else may have a password as well.
        raise InvalidParameterError(
            f"a Redis is at unix:///path, redis://host:port or rediss://host:port, not at "
            f"{parts.scheme or 'a bare path'!r}"
        )
    database = parse_qs(parts.query).get("db")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" + (
        f"?db={database[0]}" if database else ""
    )


def _connect(url: str, where: str, options: dict[str, Any]) -> Any:
    try:
        import hiredis  # noqa: F401  (redis uses it when it is there, and is several times slower without)
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise OptionalDependencyError.of("redis with hiredis", "redis", f"a cache at {where}") from error
    best = {**_TIMEOUTS_S, "socket_read_size": READ_BYTES, "retry": Retry(NoBackoff(), 0)}
    try:
        return redis.Redis.from_url(url, **{**best, **options, "decode_responses": False})
    except (ValueError, TypeError) as error:
        raise InvalidParameterError(f"no Redis client can be made for {where}: {type(error).__name__}") from None
