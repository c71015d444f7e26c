"""Metadata documents below a root, one a round: put, get and delete by client."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flstore.errors import CorruptObjectError
from flstore.persistence import layout
from flstore.persistence.again import again
from flstore.persistence.metadata import RoundMetadata
from flstore.persistence.remote_files import s3_code
from flstore.persistence.root import Root
from flstore.persistence.tables import to_table
from flstore.tensors import Buffer, as_bytes

if TYPE_CHECKING:
    import pyarrow as pa


class Documents(Root):
    """The metadata of rounds. Threads may share it, because each change reads the document and replaces it whole.

    Parameters
    ----------
    root, storage_options, fsync
        See :class:`flstore.persistence.ObjectStore`.
    """

    def __init__(
        self, root: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None, *, fsync: bool = False
    ) -> None:
        super().__init__(root, storage_options, fsync=fsync)
        self._metadata_lock = threading.Lock()
        self._unfinished: dict[str, RoundMetadata] = {}  # what documents should say whose last write failed

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
        path, old = layout.metadata_path(job, round), layout.old_metadata_path(job, round)
        with self._metadata_lock, self._meaning(f"write the metadata of round {round} of job {job!r}"):
            found, stored = self._find(job, round)
            document = self._document(found, stored)
            document.merge(newer)
            self._unfinished[path] = document
            self._files.replace(path, document.dump())
            del self._unfinished[path]
            if found == old:
                self._files.remove_all([old])

    def get_metadata(self, job: str, round: int) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Fields by client and fields of the server; both empty when nothing is stored."""
        with self._meaning(f"read the metadata of round {round} of job {job!r}"):
            document = self._document(*again(self._find)(job, round))
        return document.rows, document.server

    def get_metadata_table(self, job: str, round: int) -> pa.Table:
        """The same by column, without the server, as :mod:`flstore.persistence.tables` has it."""
        with self._meaning(f"read the metadata of round {round} of job {job!r}"):
            path, stored = again(self._find)(job, round)
            if stored is not None and path not in self._unfinished:
                return RoundMetadata.load_table(stored, f"{path} below {self.root}")
            return to_table(self._document(path, stored).rows)

    def delete_metadata(self, job: str, round: int, clients: Iterable[str] | None = None) -> tuple[list[str], int]:
        """Delete what is known about clients in a round; the document goes when nothing is left in it.

        Parameters
        ----------
        job, round
            Which document.
        clients : iterable of str, optional
            Whose rows; default the whole document, with what it says about the server, readable or not.

        Returns
        -------
        clients : list of str
            Those whose rows were deleted, sorted.
        size_bytes : int
            By how much the document shrank.

        Raises
        ------
        CorruptObjectError
            The document is damaged, so that no single rows can be deleted. Nothing changed.
        StoreError
            Nothing changed. May be repeated.
        """
        path, old = layout.metadata_path(job, round), layout.old_metadata_path(job, round)
        wanted = None if clients is None else set(clients)
        with self._metadata_lock, self._meaning(f"delete metadata of round {round} of job {job!r}"):
            found, stored = self._find(job, round)
            if stored is None:
                return [], 0
            size = as_bytes(stored).nbytes
            if found == path:  # who wrote it may have been killed before the old one went
                size += sum(self._files.remove_all([old]).values())
            document = self._readable(found, stored, needed=wanted is not None)
            self._unfinished.pop(path, None)
            gone = sorted(document.rows if wanted is None else wanted & document.rows.keys())
            for client in gone:
                del document.rows[client]
            if wanted is None or not (document.rows or document.server):
                self._files.remove_all([path, old])
                self._files.prune(f"{layout.round_path(job, round)}/update")
                return gone, size
            if not gone:
                return [], 0
            rest = document.dump()
            self._files.replace(path, rest)
            if found == old:
                self._files.remove_all([old])
        return gone, max(size - len(rest), 0)

    def _find(self, job: str, round: int) -> tuple[str, Buffer | None]:
        """Where the document of a round is, and its bytes: the old place counts as long as there is no new one."""
        path, old = layout.metadata_path(job, round), layout.old_metadata_path(job, round)
        for place in (path, old, path):  # again, because a writer may have moved it meanwhile
            if (stored := self._stored(place)) is not None:
                return place, stored
        return path, None

    def _document(self, path: str, stored: Buffer | None) -> RoundMetadata:
        """What a document says; if it is torn because a write of ours failed, what it should say."""
        try:
            return RoundMetadata() if stored is None else self._readable(path, stored)
        except CorruptObjectError:
            if path not in self._unfinished:
                raise
            return copy.deepcopy(self._unfinished[path])

    def _stored(self, path: str) -> Buffer | None:
        try:
            return self._files.read(path)
        except FileNotFoundError as exc:
            if s3_code(exc) == "NoSuchBucket":
                raise
            return None

    def _readable(self, path: str, stored: Buffer, needed: bool = True) -> RoundMetadata:
        try:
            return RoundMetadata.load(stored, f"{path} below {self.root}")
        except CorruptObjectError:
            if needed:
                raise
            return RoundMetadata()
