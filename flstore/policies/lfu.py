"""Least frequently used: the classic baseline of Table 3."""

from __future__ import annotations

from typing import ClassVar

from flstore.policies.replacement import Address, Replacement


class LFU(Replacement):
    """Keep what was used most often since it came in; of equals, the one that was used longest ago leaves first.

    Coming in is the first use. What has left is forgotten: when it comes in again, it counts from 1.

    Parameters
    ----------
    fill : {"write-around", "write-allocate"}, default "write-around"
        When objects come in: on their first request, or on ingest.
    """

    name: ClassVar[str] = "lfu"

    def __init__(self, fill: str = "write-around") -> None:
        super().__init__(fill)
        self._uses: dict[Address, int] = {}
        self._by_uses: dict[int, dict[Address, None]] = {}  # each in the order of the last use
        self._fewest = 1  # uses of the next to leave, if there is one with so many; else it is looked for

    def _enter(self, address: Address) -> None:
        self._count(address, 1)
        self._fewest = 1

    def _use(self, address: Address) -> None:
        uses = self._uses[address]
        self._leave(address)
        self._count(address, uses + 1)
        if uses == self._fewest and uses not in self._by_uses:
            self._fewest = uses + 1

    def _leave(self, address: Address) -> None:
        uses = self._uses.pop(address)
        equals = self._by_uses[uses]
        del equals[address]
        if not equals:
            del self._by_uses[uses]

    def _victim(self) -> Address:
        if self._fewest not in self._by_uses:
            self._fewest = min(self._by_uses)
        return next(iter(self._by_uses[self._fewest]))

    def _count(self, address: Address, uses: int) -> None:
        self._uses[address] = uses
        self._by_uses.setdefault(uses, {})[address] = None
