"""Memory that a store lends to its functions on the same machine, so that updates need no TLS and no sockets.

The memory has no name in any file system (``memfd_create``): it goes when the last process that has it open ends,
however it ends. A function opens it through ``/proc``, which lets only those in who may read the store's memory anyway,
copies an object out, and verifies the copy, so whatever happens to the window meanwhile is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import mmap
import os
import secrets
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from flstore.tensors import Bytes, aligned_copy, as_bytes, own_pages

WORTH_BYTES = 1 << 20
"""Smaller objects travel in their message."""
SPAN_BYTES = 8 << 30
"""Of addresses, not of memory; a larger object travels in its message."""
SHARE_BYTES = 128 << 20
"""What one borrower may have at a time, unless one object alone is larger: one that hangs must not hold up others."""
KEEP_BYTES = 256 << 20
"""Pages beyond this are given back to the system after use."""


class Window:
    """The lending side; used on one event loop.

    Attributes
    ----------
    where : list
        What a borrower needs to find it: process, descriptor, secret name.
    """

    def __init__(self) -> None:
        self._name = f"flstore-{secrets.token_hex(16)}"
        self._file = os.memfd_create(self._name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.fchmod(self._file, stat.S_IRUSR | stat.S_IWUSR)
        os.ftruncate(self._file, SPAN_BYTES)
        fcntl.fcntl(self._file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._map = mmap.mmap(self._file, SPAN_BYTES)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._lent: dict[int, tuple[int, int]] = {}
        self._returned = asyncio.Condition()
        self._closed = False

    @property
    def where(self) -> list[Any]:
        return [os.getpid(), self._file, self._name]

    @property
    def lent_bytes(self) -> int:
        """Bytes that functions may be reading."""
        return sum(size for _, size in self._lent.values())

    @asynccontextmanager
    async def lend(self, borrower: int, buffer: Any) -> AsyncIterator[int | None]:
        """Copy an object in and keep it there for the block; gives its offset, or None when there is no place.

        Waits while `borrower` has its share already.
        """
        source = np.frombuffer(as_bytes(buffer), np.uint8)
        async with self._returned:
            await self._returned.wait_for(lambda: self._closed or self._has_room(borrower, source.nbytes))
            at = self._first_fit(source.nbytes)
            if self._closed or at + source.nbytes > SPAN_BYTES:
                at = -1
            else:
                self._lent[at] = borrower, source.nbytes
        if at < 0:
            yield None
            return
        try:
            copy = asyncio.ensure_future(asyncio.to_thread(np.copyto, self._bytes[at : at + source.nbytes], source))
            try:
                await asyncio.shield(copy)
            finally:  # even of one who gives up: the copy must end before somebody else gets the place
                await asyncio.wait([copy])
            yield at
        finally:
            self._take_back(at)
            async with self._returned:
                self._returned.notify_all()

    async def close(self) -> None:
        """Let go of the memory; who still copies keeps it until then."""
        self._closed = True
        del self._bytes
        with contextlib.suppress(BufferError):
            self._map.close()
        os.close(self._file)
        async with self._returned:
            self._returned.notify_all()

    def _has_room(self, borrower: int, size: int) -> bool:
        has = sum(length for who, length in self._lent.values() if who == borrower)
        return not has or has + size <= SHARE_BYTES

    def _first_fit(self, size: int) -> int:
        """The lowest place, so that the same pages are used again and again: fresh ones cost more than the copy."""
        at = 0
        for begin, (_, length) in sorted(self._lent.items()):
            if begin - at >= size:
                break
            at = -(-(begin + length) // mmap.PAGESIZE) * mmap.PAGESIZE
        return at

    def _take_back(self, at: int) -> None:
        end = at + self._lent.pop(at)[1]
        begin = max(at, KEEP_BYTES)
        if end > begin and not self._closed:
            self._map.madvise(mmap.MADV_REMOVE, begin, end - begin)


def open_window() -> Window | None:
    """A window, or None where the system has no such memory."""
    try:
        return Window()
    except (AttributeError, OSError, ValueError, OverflowError):
        return None


def sees(where: list[Any]) -> bool:
    """Whether this process can read the window: it is on the same machine, and of the same user."""
    process, _, name = where
    try:
        if int(process) == os.getpid() or os.readlink(_path(where)) != f"/memfd:{name} (deleted)":
            return False
        os.close(_open(where))
    except OSError:
        return False
    return True


class Borrower:
    """The reading side, used by several threads. The window is mapped only while somebody reads it.

    A mapping counts as memory of the process that has it, so it goes with the last reader; while updates follow each
    other it stays, because mapping costs as much as half a copy.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._maps: dict[str, tuple[mmap.mmap, int]] = {}

    def borrow(self, where: list[Any], at: int, size_bytes: int) -> Bytes:
        """Return an aligned copy of a part of the window.

        Raises
        ------
        OSError
            The store is gone, or the window is too short.
        """
        mapped = self._enter(where)
        try:
            if at + size_bytes > len(mapped):
                raise OSError(f"the window ends {at + size_bytes - len(mapped)} bytes too early")
            with memoryview(mapped) as whole, whole[at : at + size_bytes] as part:
                return aligned_copy(part, own_pages)
        finally:
            self._leave(where)

    def _enter(self, where: list[Any]) -> mmap.mmap:
        with self._lock:
            mapped, readers = self._maps.get(where[2], (None, 0))
            if mapped is None:
                file = _open(where)
                try:
                    # Whatever is behind the name now, it must not shrink under the reader.
                    if not fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                        raise OSError("the window can shrink")
                    mapped = mmap.mmap(file, 0, prot=mmap.PROT_READ)
                finally:
                    os.close(file)
            self._maps[where[2]] = mapped, readers + 1
            return mapped

    def _leave(self, where: list[Any]) -> None:
        with self._lock:
            mapped, readers = self._maps[where[2]]
            if readers > 1:
                self._maps[where[2]] = mapped, readers - 1
            else:
                del self._maps[where[2]]
                mapped.close()


def _path(where: list[Any]) -> str:
    return f"/proc/{int(where[0])}/fd/{int(where[1])}"


def _open(where: list[Any]) -> int:
    return os.open(_path(where), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
