"""First in, first out: the classic baseline of section 5.5."""

from __future__ import annotations

from typing import ClassVar

from flstore.policies.replacement import Address, Replacement


class FIFO(Replacement):
    """Keep what came in last, as much as fits; being used changes nothing.

    Parameters
    ----------
    fill : {"write-around", "write-allocate"}, default "write-around"
        When objects come in: on their first request, or on ingest.
    """

    name: ClassVar[str] = "fifo"

    def _enter(self, address: Address) -> None:
        """Nothing: the sizes are in the order in which objects came in."""

    def _use(self, address: Address) -> None:
        """Nothing."""

    def _leave(self, address: Address) -> None:
        """Nothing."""

    def _victim(self) -> Address:
        return next(iter(self._sizes))
