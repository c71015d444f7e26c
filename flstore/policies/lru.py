"""Least recently used, with either way of filling: the classic baseline of section 5.5."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, TypeAlias

from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy, View
from flstore.types import Deleted, Event, Ingested, KeySet, Kind, Requested, Unwant, Want

_Address: TypeAlias = tuple[int, Kind, int, int]
FILLS = ("write-around", "write-allocate")


class LRU(Policy):
    """Keep what was used last, as much as fits.

    Parameters
    ----------
    fill : {"write-around", "write-allocate"}, default "write-around"
        Whether an object enters the cache when it is first asked for, or already when it is ingested. The paper's
        classic policies are filled on demand, which alone makes their hit ratio 0 on a trace that asks for each
        update once.
    """

    name: ClassVar[str] = "lru"

    def __init__(self, fill: str = "write-around") -> None:
        if fill not in FILLS:
            raise InvalidParameterError(f"fill must be one of {', '.join(FILLS)}, got {fill!r}")
        self.fill = fill
        self._used: dict[_Address, int] = {}
        self._bytes = 0

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant]:
        """Touch what is asked for, let in what is new, let go of what was used longest ago."""
        if isinstance(event, Requested):
            yield from self._touch(event.keys, view)
        elif isinstance(event, Ingested) and self.fill == "write-allocate":
            yield from self._touch((event.keys,), view)
        elif isinstance(event, Deleted):
            for keys in event.keys:
                for round, client in keys.pairs():
                    self._bytes -= self._used.pop((keys.job, keys.kind, round, client), 0)

    def _touch(self, key_sets: tuple[KeySet, ...], view: View) -> Iterator[Want | Unwant]:
        capacity = view.capacity_bytes
        admitted: dict[_Address, None] = {}
        evicted: list[_Address] = []
        for keys in key_sets:
            for (round, client), size in zip(keys.pairs(), view.size(keys).tolist(), strict=True):
                address = (keys.job, keys.kind, round, client)
                known = self._used.pop(address, None)
                if known is None and (size > view.largest_function_bytes or size == 0):
                    continue
                self._bytes += size - (known or 0)
                while self._bytes > capacity and self._used:
                    victim = next(iter(self._used))
                    self._bytes -= self._used.pop(victim)
                    if victim in admitted:
                        del admitted[victim]
                    else:
                        evicted.append(victim)
                self._used[address] = size
                if known is None:
                    admitted[address] = None
        yield from (Unwant(self.name, keys) for keys in _key_sets(evicted))
        yield from (Want(self.name, keys) for keys in _key_sets(admitted))


def _key_sets(addresses: Iterable[_Address]) -> Iterator[KeySet]:
    """Addresses by round, in order."""
    rounds: dict[tuple[int, Kind, int], list[int]] = {}
    for job, kind, round, client in addresses:
        rounds.setdefault((job, kind, round), []).append(client)
    for (job, kind, round), clients in rounds.items():
        yield KeySet.of_round(job, kind, round, clients)
