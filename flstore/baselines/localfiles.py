"""LocalFiles: safetensors files of this machine, mapped into the notebook's own process, as a person does today."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from flstore.baselines.aggregator import Aggregator
from flstore.baselines.mapped import MappedFiles
from flstore.engine import RequestRecord
from flstore.errors import InvalidParameterError
from flstore.persistence import ObjectStore
from flstore.persistence.files import Files
from flstore.persistence.files import LocalFiles as FilesOfThisMachine
from flstore.persistence.values import take
from flstore.types import Key


class LocalFiles(Aggregator):
    """The same requests and workload code on files of this machine, without a copy and without another process.

    Parameters
    ----------
    root : str
        A folder, or a ``file://`` URL; may be one that an FLStore writes.
    verify : bool, default False
        Compare each update with its checksum, which reads every byte once more. Without it an update's name, size and
        layout are checked, as other readers of safetensors files do, and a byte that changed on disk is not noticed.
    **options
        ``compute_threads`` of :class:`flstore.baselines.aggregator.Aggregator`; ``job``, ``write_buffer``, ``fsync``:
        see :class:`flstore.system.System`.

    Raises
    ------
    InvalidParameterError
        A root that is not on a file system of this machine.

    Notes
    -----
    In its records every object is a miss, because none is in memory by the system's own doing (the operating system
    may have it); `bytes_moved` counts metadata alone, because updates are not copied.

    What is mapped must not be cut by another program (the operating system would end this process); stores of this
    package put a new file in place of an old one instead.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as root, LocalFiles(root) as store:
    ...     receipt = store.ingest(1, {"a": {"w": np.ones(3)}, "b": {"w": -np.ones(3)}})
    ...     store.request("cosine_similarity", round=1).value.similarity[0, 1]
    np.float64(-1.0)
    """

    name: ClassVar[str] = "LocalFiles"
    place: ClassVar[str] = "this process"

    def __init__(self, root: str | os.PathLike[str], *, verify: bool = False, **options: Any) -> None:
        self.verify = verify
        super().__init__(os.fspath(root), concurrency=1, **options)

    def _open_objects(self, root: str, storage_options: Mapping[str, Any] | None, fsync: bool) -> ObjectStore:
        return MappedStore(root, storage_options, fsync=fsync)

    def _read_tensors(self, keys: Sequence[Key], record: RequestRecord) -> Mapping[Key, Any]:
        return {key: self._read_one(key) for key in keys}  # mapping takes microseconds, a thread would take longer

    def _take(self, key: Key, stored: Any) -> tuple[Any, int]:
        return take(key, stored, verify=self.verify)[0], 0


class MappedStore(ObjectStore):
    """A persistent store in a folder of this machine whose objects are mapped into memory instead of read."""

    def _open_files(self, root: str, options: dict[str, Any], fsync: bool) -> Files:
        files = super()._open_files(root, options, fsync)
        if not isinstance(files, FilesOfThisMachine):
            raise InvalidParameterError(
                f"LocalFiles maps files of this machine, and {self.root} is none of its folders; ObjStoreAgg reads any "
                f"root, with cache='<folder>' through files of this machine"
            )
        return MappedFiles(str(files.root), fsync=fsync)
