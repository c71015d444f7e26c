"""The byte-accounted memory of one cache function: a cache, and scratch space for what one request needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from flstore.errors import CapacityError
from flstore.parts import contains
from flstore.types import Key, Part

SCRATCH_SHARE = 0.25
"""The part of a function's memory that is kept for requests; the rest is the cache."""


def cache_bytes(memory_bytes: int, scratch_share: float = SCRATCH_SHARE) -> int:
    """How much of a function's memory the engine may fill."""
    return memory_bytes - int(memory_bytes * scratch_share)


@dataclass(slots=True, eq=False)
class Entry:
    """One object, or one part of it, in memory. While pinned its bytes stay counted, even when it was dropped."""

    key: Key
    value: Any
    size_bytes: int
    generation: int
    part: Part | None = None
    pins: int = 0
    dropped: bool = False


@dataclass
class FunctionMemory:
    """Objects by key, with a hard limit. Used from the event loop alone.

    Parameters
    ----------
    memory_bytes : int
        Cache and scratch together.
    wait_s : float
        How long an insert waits for room that a drop on its way will make, seconds.
    scratch_share : float
        The part of it that the cache leaves to requests.
    """

    memory_bytes: int
    wait_s: float = 600.0
    entries: dict[Key, Entry] = field(default_factory=dict)
    used_bytes: int = 0
    scratch_bytes: int = 0
    tombstones: dict[Key, int] = field(default_factory=dict)
    scratch_share: float = SCRATCH_SHARE

    derived_bytes: int = 0
    spare: Callable[[int], None] = lambda size_bytes: None
    """Called when requests need bytes that derived state takes."""
    ready_bytes: Callable[[], int] = lambda: 0
    """What the process keeps ready for requests, such as models to load weights into: derived state gets less room."""
    gone: Callable[[Key], None] = lambda key: None
    """Called when an object is not held any more."""

    def __post_init__(self) -> None:
        self.capacity_bytes = cache_bytes(self.memory_bytes, self.scratch_share)
        self._room = asyncio.Condition()

    async def insert(
        self, key: Key, value: Any, size_bytes: int, generation: int, valid: Callable[[], bool] = lambda: True,
        part: Part | None = None,
    ) -> bool:  # fmt: skip
        """Put an object into the cache; False when it was dropped meanwhile, or is not `valid` any more.

        Raises
        ------
        CapacityError
            It is larger than the cache, or no room was made in time.
        """
        if size_bytes > self.capacity_bytes:
            raise CapacityError(f"{key} has {size_bytes} bytes, the cache of this function {self.capacity_bytes}")
        async with self._room:
            try:
                await asyncio.wait_for(
                    self._room.wait_for(lambda: not valid() or self._may_enter(key, size_bytes, generation)),
                    self.wait_s,
                )
            except TimeoutError:
                raise CapacityError(
                    f"no room for {key}: {size_bytes} bytes, and {self.used_bytes} of {self.capacity_bytes} are in use"
                ) from None
            if not valid() or self.tombstones.get(key, -1) >= generation:
                return False
            old = self.entries.get(key)
            if old is not None:
                if old.generation > generation:
                    return False
                self._remove(old)
            self.entries[key] = Entry(key, value, size_bytes, generation, part)
            self.used_bytes += size_bytes
            return True

    def _may_enter(self, key: Key, size_bytes: int, generation: int) -> bool:
        return self.tombstones.get(key, -1) >= generation or self._fits(key, size_bytes)

    def _fits(self, key: Key, size_bytes: int) -> bool:
        old = self.entries.get(key)
        freed = old.size_bytes if old is not None and not old.pins else 0
        return (
            self.used_bytes - freed + size_bytes <= self.capacity_bytes
            and self.used_bytes - freed + self.scratch_bytes + size_bytes <= self.memory_bytes
        )

    def find(self, key: Key, part: Part | None = None, since: int = -1) -> Entry | None:
        """The entry that holds `key`, or that part of it; None when it is not here.

        What was loaded up to generation `since` is another object of that name, and was deleted.
        """
        entry = self.entries.get(key)
        return entry if entry is not None and entry.part == part and entry.generation > since else None

    def pin(self, key: Key, part: Part | None = None, since: int = -1) -> Entry | None:
        """What :meth:`find` finds, kept in memory until :meth:`unpin`."""
        entry = self.find(key, part, since)
        if entry is not None:
            entry.pins += 1
        return entry

    def pin_around(self, key: Key, part: Part | None, since: int = -1) -> Entry | None:
        """Pin an entry from which `part` can be cut; None for the whole object, and when there is no such entry."""
        entry = self.entries.get(key)
        if part is None or entry is None or entry.generation <= since or not contains(entry.part, part):
            return None
        entry.pins += 1
        return entry

    async def unpin(self, entries: Iterable[Entry]) -> None:
        """Let go of pinned entries; those that were dropped meanwhile free their bytes now."""
        async with self._room:
            for entry in entries:
                entry.pins -= 1
                if entry.dropped and not entry.pins:
                    self.used_bytes -= entry.size_bytes
            self._room.notify_all()

    async def drop(
        self, keys: Iterable[Key], generation: int, settled: int = -1, valid: Callable[[], bool] = lambda: True
    ) -> None:
        """Forget objects that were loaded up to `generation`, and refuse such loads that still arrive.

        No load up to generation `settled` is on its way any more, so nothing need be remembered of those.
        """
        async with self._room:
            for key in keys if valid() else ():
                self.tombstones[key] = max(generation, self.tombstones.pop(key, -1))
                entry = self.entries.get(key)
                if entry is not None and entry.generation <= generation:
                    self._remove(entry)
            while self.tombstones:
                key, dropped = next(iter(self.tombstones.items()))
                if dropped > settled and len(self.tombstones) <= 100_000:
                    break
                del self.tombstones[key]
            self._room.notify_all()

    async def clear(self) -> None:
        """Forget everything, as if it had never been here; what is pinned stays counted until it is let go."""
        async with self._room:
            for entry in list(self.entries.values()):
                self._remove(entry)
            self.tombstones.clear()
            self._room.notify_all()

    @property
    def extra_bytes(self) -> int:
        """What is kept besides objects."""
        return self.derived_bytes + self.ready_bytes()

    @property
    def spare_bytes(self) -> int:
        """What neither the cache may fill nor requests or derived state take at the moment."""
        return self.memory_bytes - max(self.used_bytes, self.capacity_bytes) - self.scratch_bytes - self.extra_bytes

    def _remove(self, entry: Entry) -> None:
        del self.entries[entry.key]
        self.gone(entry.key)
        entry.dropped = True
        if not entry.pins:
            self.used_bytes -= entry.size_bytes

    async def reserve(self, size_bytes: int) -> None:
        """Take scratch space for one request; waits while other requests hold it.

        Raises
        ------
        CapacityError
            It would not fit even with no other request running.
        """
        async with self._room:
            taken = self.used_bytes + self.scratch_bytes + self.derived_bytes
            self.spare(taken + size_bytes - self.memory_bytes)
            while self.used_bytes + self.scratch_bytes + size_bytes > self.memory_bytes:
                if not self.scratch_bytes:
                    free = self.memory_bytes - self.used_bytes
                    raise CapacityError(
                        f"the request must fetch {size_bytes} bytes, and this function has {free} of "
                        f"{self.memory_bytes} bytes free: give the functions more memory (FLStore.local(memory=...))"
                    )
                await self._room.wait()
            self.scratch_bytes += size_bytes

    async def renew(self) -> None:
        """Begin a new time with what is here: loads of the time before, which wait for room, give up.

        Entries keep their generations: the engine that counts them is the same, and tells by them what is deleted.
        """
        async with self._room:
            self.tombstones.clear()
            self._room.notify_all()

    async def release(self, size_bytes: int) -> None:
        """Give scratch space back."""
        async with self._room:
            self.scratch_bytes -= size_bytes
            self._room.notify_all()
