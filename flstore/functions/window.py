"""Memory that a store lends to its functions on the same machine, so that updates need no TLS and no sockets.

The memory has no name in any file system (``memfd_create``): it goes when the last process that has it open ends,
however it ends. A function opens it through ``/proc``, which lets only those in who may read the store's memory anyway,
copies an object out, and verifies the copy, so whatever happens to the window meanwhile is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from flstore.tensors import Bytes, aligned_empty, as_bytes

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
        self._file = os.memfd_create(self._name, os.MFD_CLOEXEC)
        os.fchmod(self._file, stat.S_IRUSR | stat.S_IWUSR)
        os.ftruncate(self._file, SPAN_BYTES)
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


def borrow(where: list[Any], at: int, size_bytes: int) -> Bytes:
    """An aligned copy of a part of the window.

    Raises
    ------
    OSError
        The store is gone.
    """
    copy = aligned_empty(size_bytes)
    file = _open(where)
    try:
        done = 0
        while done < size_bytes:
            n = os.preadv(file, [copy[done:].data], at + done)
            if not n:
                raise OSError(f"the window ends {size_bytes - done} bytes too early")
            done += n
    finally:
        os.close(file)
    return copy


def _path(where: list[Any]) -> str:
    return f"/proc/{int(where[0])}/fd/{int(where[1])}"


def _open(where: list[Any]) -> int:
    return os.open(_path(where), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
