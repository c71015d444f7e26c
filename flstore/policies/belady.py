"""The offline optimum (Belady 1966): what no policy that is filled in the same way can exceed."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from typing import Any, ClassVar, Self

from flstore.errors import InvalidParameterError
from flstore.policies.base import View
from flstore.policies.replacement import Address, Replacement
from flstore.types import Event, Requested, Unwant, Want

_NEVER = 2**62


class Belady(Replacement):
    """Let go of what is asked for again last, and do not let in what would be that one itself.

    Optimal among policies that are filled in the same way, for objects of one size and one object a request; for
    others it is a heuristic (the optimum is NP-hard). It takes the requests that are to come, so only a replay can
    use it: a live store refuses it. References: L. A. Belady, A study of replacement algorithms for a virtual-storage
    computer, IBM Systems Journal 5(2), 1966; R. L. Mattson et al., Evaluation techniques for storage hierarchies, IBM
    Systems Journal 9(2), 1970.

    Parameters
    ----------
    future : iterable of Requested
        Every request that will be decided, in order.
    fill : {"write-around", "write-allocate"}, default "write-around"
        When objects may come in: on a request, or on ingest too.

    Raises
    ------
    InvalidParameterError
        Also while it decides: a request is not the one that the future names.

    Examples
    --------
    >>> policy = Belady.from_future([])
    >>> policy.needs_future
    True
    """

    name: ClassVar[str] = "belady"
    needs_future: ClassVar[bool] = True

    def __init__(self, future: Iterable[Requested], fill: str = "write-around") -> None:
        super().__init__(fill)
        self._expected: deque[int] = deque()
        self._uses: dict[Address, deque[int]] = {}
        self._now = 0
        for number, request in enumerate(future, start=1):
            self._expected.append(request.request)
            for keys in request.keys:
                for round, client in keys.pairs():
                    uses = self._uses.setdefault((keys.job, keys.kind, round, client), deque())
                    if not uses or uses[-1] != number:
                        uses.append(number)
        # Furthest use first. What is out of date stays in the heap until it comes to the top.
        self._heap: list[tuple[int, Address]] = []

    @classmethod
    def from_future(cls, requests: Iterable[Requested], **params: Any) -> Self:
        """The policy for a replay of these requests."""
        return cls(requests, **params)

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant]:
        """Go on to the next request of the future."""
        if isinstance(event, Requested):
            if not self._expected or self._expected.popleft() != event.request:
                raise InvalidParameterError(
                    f"request {event.request} is not the one that the future given to {self.name!r} has here; give it "
                    f"every request of the replay, in order"
                )
            self._now += 1
        return super().decide(event, view)

    def _next_use(self, address: Address) -> int:
        uses = self._uses.get(address)
        while uses and uses[0] <= self._now:
            uses.popleft()
        return uses[0] if uses else _NEVER

    def _enter(self, address: Address) -> None:
        heapq.heappush(self._heap, (-self._next_use(address), address))

    _use = _enter

    def _leave(self, address: Address) -> None:
        """Nothing: what is in the heap and not there is passed over."""

    def _victim(self) -> Address:
        while True:
            furthest, address = self._heap[0]
            if address in self._sizes and -furthest == self._next_use(address):
                return address
            heapq.heappop(self._heap)

    def _admits(self, address: Address, size: int, capacity: int) -> bool:
        mine = self._next_use(address)
        if mine == _NEVER:
            return False
        return self._bytes + size <= capacity or mine < self._next_use(self._victim())
