"""ObjStore-Agg: an aggregator that fetches from an object store what each request reads (Figure 3 of the paper)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import xxhash

from flstore.baselines.aggregator import Aggregator
from flstore.baselines.layers import FOLDER, SUFFIX, LayeredFiles, head_path
from flstore.baselines.mapped import CachedFiles
from flstore.codec import decode
from flstore.engine import RequestRecord
from flstore.errors import CorruptObjectError, InvalidParameterError
from flstore.persistence import ObjectStore, object_path
from flstore.persistence.files import Files
from flstore.persistence.layout import round_path
from flstore.tensors import Buffer
from flstore.types import Deleted, Drop, Ingested, Key, Kind

LAYOUTS = {"per-update": 8, "per-layer": 1}
"""How updates may be stored, and how many are fetched at a time when nothing else is said."""


class ObjStoreAgg(Aggregator):
    """Data in an object store, computation in the aggregator: no cache between them.

    Parameters
    ----------
    root : str
        The persistent store; with one object an update it may be one that an FLStore writes.
    layout : {"per-update", "per-layer"}
        One safetensors object an update, fetched concurrently: the strong form. Or one object a tensor, fetched one
        after the other, which is what the authors' artifact does; such a root is read with this layout only.
    concurrency : int, optional
        Updates fetched at the same time; default 8, and 1 with one object a tensor.
    cache : str, optional
        A folder of this machine where what was read stays, as behind ``filecache::``; it grows without limit. What
        another process deletes is forgotten there by :meth:`refresh`.
    keep_last_round : bool
        The round that was just aggregated is still in the aggregator's memory: the updates, aggregate and metadata of
        the newest round with updates that this object has taken in, and the aggregate that it started from.
    **options
        ``compute_threads`` of :class:`flstore.baselines.aggregator.Aggregator`; ``job``, ``storage_options``,
        ``write_buffer``, ``fsync``: see :class:`flstore.system.System`.

    Raises
    ------
    InvalidParameterError
        An unknown layout, one that is not that of the root, or a number out of range.

    Notes
    -----
    In its records, what is in the cache or kept in memory is a hit, and all else a miss. `bytes_moved` are those that
    came from the object store.

    Examples
    --------
    >>> import numpy as np
    >>> with ObjStoreAgg("memory://objstore-example", layout="per-layer") as store:
    ...     receipt = store.ingest(
    ...         1, {"a": {"w": np.ones(3), "b": np.ones(1)}, "b": {"w": np.ones(3), "b": np.ones(1)}}
    ...     )
    ...     store.request("cosine_similarity", round=1).record.misses
    2
    """

    name: ClassVar[str] = "ObjStore-Agg"

    def __init__(
        self,
        root: str,
        layout: str = "per-update",
        *,
        concurrency: int | None = None,
        cache: str | os.PathLike[str] | None = None,
        keep_last_round: bool = False,
        **options: Any,
    ) -> None:
        if layout not in LAYOUTS:
            raise InvalidParameterError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        self.layout, self.cache, self.keep_last_round = layout, cache, keep_last_round
        self._kept: dict[Key, Any] = {}
        super().__init__(root, concurrency=LAYOUTS[layout] if concurrency is None else concurrency, **options)
        self._check_layout()

    def _open_objects(self, root: str, storage_options: Mapping[str, Any] | None, fsync: bool) -> ArrangedStore:
        self._arranged = ArrangedStore(root, storage_options, fsync, self.layout, self.cache)
        return self._arranged

    def _check_layout(self) -> None:
        """Refuse a root that is laid out in the other way: it would look empty, and then become a mixture."""
        other = FOLDER + "/" if self.layout == "per-update" else SUFFIX
        for round in self._objects.rounds(self.job)[:1]:
            wrong = [path for path in self._arranged.as_stored(round_path(self.job, round)) if other in path]
            if wrong:
                (right,) = set(LAYOUTS) - {self.layout}
                raise InvalidParameterError(
                    f"job {self.job!r} below {self.root} is not laid out {self.layout} (it has {wrong[0]}): open it "
                    f"with layout={right!r}, or choose another root"
                )

    def _arrived(self, events: list[Ingested], values: Mapping[Key, Any]) -> None:
        super()._arrived(events, values)
        if self.keep_last_round:
            new = {k: v if k.kind is Kind.METADATA else decode(v, key=k, verify=False) for k, v in values.items()}
            kept = {**self._kept, **new}
            last = max((key.round for key in kept if key.kind is Kind.UPDATE), default=0)
            self._kept = {k: v for k, v in kept.items() if k.round >= last - (k.kind is Kind.AGGREGATE)}

    def _forget(self, event: Deleted) -> list[Drop]:
        gone = {key for keys in event.keys for key in self._catalogue.keys(keys)}
        self._kept = {key: value for key, value in self._kept.items() if key not in gone}
        self._arranged.forget(gone)
        return super()._forget(event)

    def _fetch(self, keys: Sequence[Key], record: RequestRecord) -> dict[Key, Any]:
        kept = self._kept
        found = {key: kept[key] for key in keys if key in kept}
        rest = [key for key in keys if key not in kept]
        record.hits = len(found)
        record.misses = len(rest)
        return {**found, **super()._fetch(rest, record)} if rest else found

    def _read_tensors(self, keys: Sequence[Key], record: RequestRecord) -> Mapping[Key, Any]:
        cached = {key for key in keys if self._arranged.is_cached(key)}
        stored = super()._read_tensors(keys, record)
        record.hits += len(cached)
        record.misses -= len(cached)
        record.bytes_moved -= sum(memoryview(stored[key]).nbytes for key in cached)
        record.operations -= len(cached)
        if self.layout == "per-layer":  # beside the head of each update, one a tensor
            fetched = (decode(value, key=key, verify=False) for key, value in stored.items() if key not in cached)
            record.operations += sum(map(len, fetched))
        return stored

    def _read_one(self, key: Key) -> Any:
        try:
            return super()._read_one(key)
        except CorruptObjectError as error:
            self._forget_copy(key, error)
            return super()._read_one(key)

    def _take(self, key: Key, stored: Any) -> tuple[Any, int]:
        try:
            return super()._take(key, stored)
        except CorruptObjectError as error:
            self._forget_copy(key, error)
            return super()._take(key, super()._read_one(key))

    def _forget_copy(self, key: Key, error: CorruptObjectError) -> None:
        """Drop what is cached of a damaged object, because it may be the copy that is damaged; without one, raise."""
        if not self._arranged.is_cached(key):
            raise error
        self._arranged.forget([key])


class ArrangedStore(ObjectStore):
    """A persistent store in one of the layouts, perhaps with copies in a folder of this machine.

    Parameters
    ----------
    root, storage_options, fsync
        See :class:`flstore.persistence.ObjectStore`.
    layout, cache
        See :class:`ObjStoreAgg`.
    """

    def __init__(
        self,
        root: str,
        storage_options: Mapping[str, Any] | None = None,
        fsync: bool = False,
        layout: str = "per-update",
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self._layout, self._cache = layout, cache
        self._copies: CachedFiles | None = None
        super().__init__(root, storage_options, fsync=fsync)
        self._spec.update(layout=layout, cache=cache)

    def _open_files(self, root: str, options: dict[str, Any], fsync: bool) -> Files:
        files = super()._open_files(root, options, fsync)
        if self._cache is not None:
            # Another root may have objects of the same names.
            server = options.get("endpoint_url") or (options.get("client_kwargs") or {}).get("endpoint_url")
            name = xxhash.xxh3_128_hexdigest(repr((self._spec["root"], server)).encode())
            files = self._copies = CachedFiles(files, os.path.join(self._cache, name))
        self._as_stored = files
        return files if self._layout == "per-update" else LayeredFiles(files)

    def as_stored(self, folder: str) -> dict[str, int]:
        """Bytes of every object below a folder, whatever the layout makes of them."""
        with self._meaning(f"list {folder}"):
            return self._as_stored.files(folder)

    def is_cached(self, key: Key) -> bool:
        """Whether a copy of an object is on this machine."""
        path = self._path(key)
        return self._copies is not None and self._copies.holds(
            path if self._layout == "per-update" else head_path(path)
        )

    def forget(self, keys: set[Key] | list[Key]) -> None:
        """Drop the copies that are on this machine."""
        if self._copies is not None:
            paths = [object_path(key) for key in keys if key.kind is not Kind.METADATA]
            pieces = [os.path.dirname(head_path(path)) for path in paths]
            self._copies.forget(paths if self._layout == "per-update" else pieces)

    def _stored(self, path: str) -> Buffer | None:
        try:
            return super()._stored(path)
        except CorruptObjectError:  # pieces are missing; like other damage, it can be healed with a whole copy
            return b""
