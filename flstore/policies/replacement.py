"""What the classic policies of section 5.5 share: objects come in one by one, and when memory is full one leaves."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy, View
from flstore.types import Deleted, Event, Ingested, KeySet, Kind, Requested, Unwant, Want

Address: TypeAlias = tuple[int, Kind, int, int]
"""(job, kind, round, client)."""

FILLS = ("write-around", "write-allocate")


class Replacement(Policy):
    """Base of policies that differ only in which object leaves.

    Objects that no function could hold are passed over. The keys of one request are used one after the other, so a
    request for more than fits leaves its last keys. An object that grew makes others leave.

    Parameters
    ----------
    fill : {"write-around", "write-allocate"}, default "write-around"
        Whether an object enters the cache when it is first asked for, or already when it is ingested. The paper's
        classic policies are filled on demand, which alone makes their hit ratio 0 on a trace that asks for each
        update once.
    """

    def __init__(self, fill: str = "write-around") -> None:
        if fill not in FILLS:
            raise InvalidParameterError(f"fill must be one of {', '.join(FILLS)}, got {fill!r}")
        self.fill = fill
        self._sizes: dict[Address, int] = {}
        self._bytes = 0

    @abstractmethod
    def _enter(self, address: Address) -> None:
        """Note that an object came in."""

    @abstractmethod
    def _use(self, address: Address) -> None:
        """Note that an object was used once more."""

    @abstractmethod
    def _leave(self, address: Address) -> None:
        """Note that an object is not there any more."""

    @abstractmethod
    def _victim(self) -> Address:
        """The object that leaves next; asked only while there is one."""

    def _admits(self, address: Address, size: int, capacity: int) -> bool:
        """Whether an object that could be held shall come in."""
        return True

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant]:
        """Use what is asked for, let in what is new, let go of what has to leave."""
        if isinstance(event, Requested):
            if len(event.keys) == 1 and len(event.keys[0]) == 1:
                return self._touch_one(event.keys[0], view)
            return self._touch(event.keys, view)
        if isinstance(event, Ingested):
            if self.fill == "write-allocate":
                return self._touch((event.keys,), view, grown=True)
            return self._regrow(event, view) if event.keys.kind is Kind.METADATA else ()
        if isinstance(event, Deleted):
            for keys in event.keys:
                for round, client in keys.pairs():
                    self._forget((keys.job, keys.kind, round, client))
        return ()

    def _touch_one(self, keys: KeySet, view: View) -> list[Want | Unwant]:
        """What :meth:`_touch` does for one object, without the lists."""
        ((round, client),) = keys.pairs()
        address = (keys.job, keys.kind, round, client)
        if address in self._sizes:
            self._use(address)
            return []
        size, capacity = int(view.size(keys)[0]), view.capacity_bytes
        if not 0 < size <= min(capacity, view.largest_function_bytes) or not self._admits(address, size, capacity):
            return []
        evicted: list[Address] = []
        self._bytes += size
        self._make_room(capacity, {}, evicted)
        self._sizes[address] = size
        self._enter(address)
        return [*(Unwant(self.name, gone) for gone in _key_sets(evicted)), Want(self.name, keys)]

    def _touch(self, key_sets: Iterable[KeySet], view: View, grown: bool = False) -> list[Want | Unwant]:
        """Use these objects; `grown` when their sizes may differ from those that are known."""
        admitted: dict[Address, None] = {}
        evicted: list[Address] = []
        capacity = largest = -1
        for keys in key_sets:
            sizes: list[int] | None = None
            for i, (round, client) in enumerate(keys.pairs()):
                address = (keys.job, keys.kind, round, client)
                known = self._sizes.get(address)
                if known is not None:
                    self._use(address)
                    if not grown:
                        continue
                if sizes is None:
                    sizes = view.size(keys).tolist()
                if capacity < 0:
                    capacity = view.capacity_bytes
                    largest = min(view.largest_function_bytes, capacity)
                size = sizes[i]
                if known is None and (not 0 < size <= largest or not self._admits(address, size, capacity)):
                    continue
                self._bytes += size - (known or 0)
                if known is not None:
                    self._sizes[address] = size
                self._make_room(capacity, admitted, evicted)
                if known is None:
                    self._sizes[address] = size
                    self._enter(address)
                    admitted[address] = None
        return [
            *(Unwant(self.name, keys) for keys in _key_sets(evicted)),
            *(Want(self.name, keys) for keys in _key_sets(admitted)),
        ]

    def _make_room(self, capacity: int, admitted: dict[Address, None], evicted: list[Address]) -> None:
        while self._bytes > capacity and self._sizes:
            victim = self._victim()
            self._forget(victim)
            if victim in admitted:
                del admitted[victim]
            else:
                evicted.append(victim)

    def _regrow(self, event: Ingested, view: View) -> list[Want | Unwant]:
        """Metadata that is known may have come in with another size."""
        evicted: list[Address] = []
        for (round, client), size in zip(event.keys.pairs(), event.sizes.tolist(), strict=True):
            address = (event.keys.job, event.keys.kind, round, client)
            if address in self._sizes:
                self._bytes += size - self._sizes[address]
                self._sizes[address] = size
        self._make_room(view.capacity_bytes, {}, evicted)
        return [Unwant(self.name, keys) for keys in _key_sets(evicted)]

    def _forget(self, address: Address) -> None:
        size = self._sizes.pop(address, None)
        if size is not None:
            self._bytes -= size
            self._leave(address)


def _key_sets(addresses: Iterable[Address]) -> Iterator[KeySet]:
    """Addresses by round, in order."""
    rounds: dict[tuple[int, Kind, int], list[int]] = {}
    for job, kind, round, client in addresses:
        rounds.setdefault((job, kind, round), []).append(client)
    for (job, kind, round), clients in rounds.items():
        yield KeySet.of_round(job, kind, round, clients)
