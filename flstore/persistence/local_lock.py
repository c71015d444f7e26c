"""One writer a job on a local root: a lock that the kernel releases when the process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flstore.persistence import layout
from flstore.persistence.term import Term, refusal, replaced


class LocalLock:
    """A lock file in the job's folder, locked while its writer lives; it stays, because it knows the epoch.

    A takeover puts another file in its place, locked by the new writer, and so needs nothing of the old one.

    Parameters
    ----------
    root : str
        The folder.
    job : str
        The job.
    takeover : bool
        Whether a living writer is to be replaced.

    Raises
    ------
    WriterExistsError
        A living writer has it.
    OSError
        The folder cannot be written.
    """

    def __init__(self, root: str, job: str, *, takeover: bool = False) -> None:
        self._root, self._job = root, job
        self._path = Path(root) / layout.writer_path(job, "lock")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(self._path.with_name(layout.writer_name("guard"))):
            last = self._read()
            held = self._lock_last()
            try:
                # A child that it forked may hold the lock of a writer that is gone.
                if held is None and not (takeover or (last is not None and last.writer.is_gone)):
                    raise refusal(root, job, last)
                self.term = Term.after(last)
                self._handle = self._put_in_place()
            finally:
                if held is not None:
                    os.close(held)

    def check(self) -> None:
        try:
            there, mine = os.stat(self._path), os.fstat(self._handle)
        except OSError:
            return  # nobody took it over; that it was removed or cannot be reached is for the writes to say
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise replaced(self._root, self._job, self._read())

    def release(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def _read(self) -> Term | None:
        try:
            return Term.load(self._path.read_bytes())
        except FileNotFoundError:
            return None

    def _lock_last(self) -> int | None:
        """The lock of the last writer, if it is gone: a handle to be closed; None while it lives."""
        handle = _open(self._path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _put_in_place(self) -> int:
        """Lock a new file, then give it the name: whoever sees it sees it whole and locked."""
        new = self._path.with_name(layout.writer_name("new"))
        new.unlink(missing_ok=True)
        with open(new, "wb") as file:
            file.write(self.term.dump())
            file.flush()
            os.fsync(file.fileno())
        handle = _lock_to_keep(new)
        try:
            os.replace(new, self._path)
        except BaseException:
            os.close(handle)
            raise
        return handle


def _lock_to_keep(path: Path) -> int:
    """A locked handle, for reading where that is enough: a file open for writing keeps a disk from being set aside."""
    for flags in (os.O_RDONLY, os.O_RDWR):
        handle = os.open(path, flags | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except OSError as error:  # NFS locks only what is open for writing
            os.close(handle)
            if error.errno != errno.EBADF or flags == os.O_RDWR:
                raise
    raise AssertionError("unreachable")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One at a time among those who want to become the writer; each is done in moments."""
    handle = _open(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    flags = os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_RDWR, 0o666)
    except PermissionError:  # another user's file in a shared folder; most file systems lock what is open for reading
        return os.open(path, flags | os.O_RDONLY, 0o666)
