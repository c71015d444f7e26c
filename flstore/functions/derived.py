"""What a cache function has computed from what it holds, for requests still to come."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from flstore.functions import wire
from flstore.functions.memory import FunctionMemory
from flstore.types import Key

What: TypeAlias = tuple[str, frozenset[tuple[Key, int]]]
"""What was derived (``Derivable.derivation``), and from which objects: each by its name and by the last load that was
decided before it existed, because what is deleted and ingested anew is another object of that name."""


def what_of(order: Mapping[str, Any]) -> What:
    """What a request needs that can be derived."""
    objects = ((wire.key_of(values), since) for values, _, _, since in order["objects"])
    return order["derivation"], frozenset(objects)


class Derived:
    """Derived state by name, in memory that the cache leaves to requests and that no request needs now.

    Used from the event loop alone.

    Parameters
    ----------
    memory : FunctionMemory
        Whose objects it is derived from, and where its bytes count: a request that needs them gets them.
    """

    def __init__(self, memory: FunctionMemory) -> None:
        self._memory = memory
        self._values: dict[What, tuple[dict[str, Any], int]] = {}
        self._underway: dict[What, asyncio.Future[Any]] = {}
        memory.spare, memory.gone = self._make_room, self._forget

    def __len__(self) -> int:
        return len(self._values)

    async def get(
        self, what: What, compute: Callable[[], Coroutine[Any, Any, dict[str, Any]]], keep: bool = True
    ) -> dict[str, Any]:
        """What was derived, or is being derived; else what `compute` gives, kept while its objects are held."""
        known = self._values.pop(what, None)
        if known is not None:
            self._values[what] = known  # the last one used is the last to go
            return known[0]
        if what in self._underway:
            value: dict[str, Any] = await asyncio.shield(self._underway[what])
            return value
        underway = self._underway[what] = asyncio.get_running_loop().create_future()
        underway.add_done_callback(lambda f: f.cancelled() or f.exception())  # nobody else may be waiting
        try:
            value = await compute()
        except BaseException as error:
            underway.set_exception(error) if isinstance(error, Exception) else underway.cancel()
            raise
        finally:
            del self._underway[what]
        underway.set_result(value)
        if keep:
            self._keep(what, value)
        return value

    def known(self, order: Mapping[str, Any]) -> KnownHere:
        """What is known of the objects of a request, for a thread that computes."""
        since = {wire.key_of(values): loaded for values, _, _, loaded in order["objects"]}
        objects = set(since.items())
        found = {what: value for what, (value, _) in self._values.items() if what[1] <= objects}
        for what in found:  # the last ones used are the last to go
            self._values[what] = self._values.pop(what)
        loop = asyncio.get_running_loop()
        return KnownHere(since, found, lambda what, value: loop.call_soon_threadsafe(self._keep, what, value))

    def _keep(self, what: What, value: dict[str, Any]) -> None:
        size = size_of(value)
        if what in self._values:
            return
        if all(self._memory.find(key, since=since) for key, since in what[1]) and self._memory.spare_bytes >= size:
            self._values[what] = value, size
            self._memory.derived_bytes += size

    def _make_room(self, size_bytes: int) -> None:
        """Give up the oldest, until so many bytes are free or nothing is left."""
        while self._values and size_bytes > 0:
            size_bytes -= self._remove(next(iter(self._values)))

    def _forget(self, key: Key) -> None:
        """Nothing stays that was derived from an object that is not held any more."""
        for what in [what for what in self._values if any(key == other for other, _ in what[1])]:
            self._remove(what)

    def _remove(self, what: What) -> int:
        _, size = self._values.pop(what)
        self._memory.derived_bytes -= size
        return size


class KnownHere:
    """What was known of the objects of one request when it began, and what it adds; for one thread at a time.

    Parameters
    ----------
    since : mapping
        The objects, each with the last load before it existed.
    found : dict
        What is known.
    keep : callable
        Takes what is new to the event loop.
    """

    def __init__(
        self, since: Mapping[Key, int], found: dict[What, dict[str, Any]], keep: Callable[[What, dict[str, Any]], Any]
    ) -> None:
        self._since, self._found, self._keep = since, found, keep
        self._sought, self._added = 0, 0

    def find(self, what: str, keys: Collection[Key]) -> Mapping[str, Any] | None:
        """What was computed from exactly these objects under that name, or None."""
        self._sought += 1
        return self._found.get((what, self._objects(keys)))

    def keep(self, what: str, keys: Collection[Key], value: dict[str, Any]) -> None:
        """Keep plain values, if there is room."""
        self._added += 1
        self._found[what, self._objects(keys)] = value
        self._keep((what, self._objects(keys)), value)

    def _objects(self, keys: Iterable[Key]) -> frozenset[tuple[Key, int]]:
        return frozenset((key, self._since[key]) for key in keys)

    @property
    def all_known(self) -> bool:
        """Whether all that was asked for had been computed before."""
        return self._sought > 0 and not self._added


def size_of(value: Any) -> int:
    """Bytes of plain values, nearly."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return sum(size_of(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple):
        return sum(map(size_of, value))
    return sys.getsizeof(value)
