"""Cache-Agg: an aggregator that fetches what each request reads from an in-memory cache (Figure 3 of the paper)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flstore.baselines.aggregator import Aggregator
from flstore.baselines.redis_store import RedisStore
from flstore.engine import RequestRecord
from flstore.persistence import object_path
from flstore.persistence.metadata import RoundMetadata
from flstore.persistence.values import about, take
from flstore.types import Key, Kind


class CacheAgg(Aggregator):
    """Data in a Redis that holds the whole run, computation in the aggregator.

    Each value is one safetensors object, or the metadata of one round, under the name that it would have as a file
    (:mod:`flstore.persistence.layout`). What a request reads is fetched by one MGET.

    Parameters
    ----------
    url : str
        ``unix:///path/of/redis.sock``, ``redis://host:port/database`` or ``rediss://...``.
    root : str, optional
        A persistent store behind it: it gets all that is taken in, and has what Redis does not. Without one, what
        Redis loses is lost.
    redis_options : dict, optional
        For ``redis.Redis.from_url``: a password, certificates, time-outs. Never shown.
    **options
        ``compute_threads`` of :class:`flstore.baselines.aggregator.Aggregator`; ``job``, ``storage_options``,
        ``write_buffer``, ``fsync``: see :class:`flstore.system.System`.

    Raises
    ------
    InvalidParameterError
        No URL of a Redis.
    OptionalDependencyError
        The packages redis and hiredis are not installed.
    StoreError
        Redis does not answer.

    Notes
    -----
    Objects that are too much for Redis are refused with a ``CapacityError``, which the receipt of their ingest raises;
    a request for one that Redis has evicted raises it too. With `root` neither happens: a warning says once that Redis
    is full.

    In its records, what Redis had is a hit, and what came from the store behind it a miss; all of it is `bytes_moved`.

    Examples
    --------
    >>> from flstore.testing.services import redis_server
    >>> with redis_server(tmp_path) as server, CacheAgg(server.url) as store:  # doctest: +SKIP
    ...     receipt = store.ingest(1, {"a": {"w": np.ones(3)}, "b": {"w": np.ones(3)}})
    ...     store.request("cosine_similarity", round=1).record.hits
    2
    """

    name: ClassVar[str] = "Cache-Agg"

    def __init__(
        self,
        url: str,
        *,
        root: str | os.PathLike[str] | None = None,
        redis_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._url, self._behind, self._redis_options = url, None if root is None else os.fspath(root), redis_options
        super().__init__(self._behind or "", concurrency=1, **options)

    def _open_objects(self, root: str, storage_options: Mapping[str, Any] | None, fsync: bool) -> RedisStore:
        self._redis = RedisStore(self._url, self._redis_options, self._behind, storage_options, fsync)
        return self._redis

    def _claim(self) -> None:
        super()._claim()
        self._redis.claim(self.job)

    def _lose(self, gone: set[tuple[Kind, int, int]]) -> None:
        # An answer without the clients that were evicted would look like one about all; the error names them instead.
        if gone and (self._redis.backed or not self._redis.evicted()):
            super()._lose(gone)

    def _fetch(self, keys: Sequence[Key], record: RequestRecord) -> dict[Key, Any]:
        paths = {key: object_path(key) for key in keys}
        stored, missed = self._redis.fetch(list(dict.fromkeys(paths.values())), _named(keys)) if keys else ({}, set())
        record.misses = sum(path in missed for path in paths.values())
        record.hits = len(keys) - record.misses
        record.operations += bool(keys)  # one MGET
        documents = {path: RoundMetadata.load(stored[path], path).rows for path in _documents(paths) if path in stored}
        for key, path in paths.items():
            if key.kind is Kind.METADATA and path not in documents:  # not there, or where an earlier version kept it
                documents[path] = self._redis.get_metadata(key.job, key.round)[0]
        found: dict[Key, Any] = {}
        for key, path in paths.items():
            value = (
                documents.get(path, {}).get(str(key.client)) if key.kind is Kind.METADATA else stored.pop(path, None)
            )
            if value is None:
                with about(key):
                    raise self._redis.lost(key)
            found[key], size = take(key, value)
            record.bytes_moved += size
        return found

    def _shut(self, last: Any) -> None:
        super()._shut(last)
        self._redis.client.close()


def _documents(paths: Mapping[Key, str]) -> set[str]:
    return {path for key, path in paths.items() if key.kind is Kind.METADATA}


def _named(keys: Sequence[Key]) -> str:
    return str(keys[0]) + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")
