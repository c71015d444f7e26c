"""Least recently used: the classic baseline of section 5.5."""

from __future__ import annotations

from typing import ClassVar

from flstore.policies.replacement import Address, Replacement


class LRU(Replacement):
    """Keep what was used last, as much as fits.

    Parameters
    ----------
    fill : {"write-around", "write-allocate"}, default "write-around"
        When objects come in: on their first request, or on ingest.
    """

    name: ClassVar[str] = "lru"

    def __init__(self, fill: str = "write-around") -> None:
        super().__init__(fill)
        self._order: dict[Address, None] = {}

    def _enter(self, address: Address) -> None:
        self._order[address] = None

    def _use(self, address: Address) -> None:
        del self._order[address]
        self._order[address] = None

    def _leave(self, address: Address) -> None:
        del self._order[address]

    def _victim(self) -> Address:
        return next(iter(self._order))
