"""A bound on the requests that are open at a time: who comes later waits in line, as a thread or as a coroutine."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future


class Gate:
    """Lets `limit` in at a time, the others in the order in which they came. Safe to use from any thread.

    Parameters
    ----------
    limit : int
        How many may be inside.

    Examples
    --------
    >>> gate = Gate(1)
    >>> gate.enter(), gate.enter(timeout_s=0.01)
    (True, False)
    >>> gate.leave()
    >>> gate.inside
    0
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = 0
        self._lock = threading.Lock()
        self._line: deque[Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many stand in line."""
        return len(self._line)

    def enter(self, timeout_s: float | None = None) -> bool:
        """Go in, waiting for room if need be; False when there was none in time."""
        ticket = self._ticket()
        if ticket is None:
            return True
        try:
            ticket.result(timeout_s)
        except BaseException as error:
            return self._stops_waiting(ticket, error)
        return True

    async def enter_async(self, timeout_s: float | None = None) -> bool:
        """Do what :meth:`enter` does without blocking the event loop. Who is cancelled in line leaves it."""
        ticket = self._ticket()
        if ticket is None:
            return True
        try:
            # Cancelled alone, a wrapped future cancels the ticket too, which may be valid already: hence the shield.
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(ticket)), timeout_s)
        except BaseException as error:
            return self._stops_waiting(ticket, error)
        return True

    def enter_now(self) -> None:
        """Go in whether there is room or not, for those who must not wait."""
        with self._lock:
            self.inside += 1

    def leave(self) -> None:
        """Make room, and let the next one in."""
        with self._lock:
            self.inside -= 1
            let_in = self._line.popleft() if self._line and self.inside < self.limit else None
            if let_in is not None:
                self.inside += 1
        if let_in is not None:
            let_in.set_result(None)

    def _ticket(self) -> Future[None] | None:
        """None for who is inside at once, otherwise what resolves when it is let in."""
        with self._lock:
            if self.inside < self.limit and not self._line:
                self.inside += 1
                return None
            ticket: Future[None] = Future()
            self._line.append(ticket)
            return ticket

    def _stops_waiting(self, ticket: Future[None], error: BaseException) -> bool:
        """Whether the one whose time is over was let in at the last moment; raises what interrupted another."""
        let_in = not self._give_back(ticket)
        if isinstance(error, TimeoutError):
            return let_in
        if let_in:
            self.leave()
        raise error

    def _give_back(self, ticket: Future[None]) -> bool:
        """Leave the line; False for who was let in meanwhile."""
        with self._lock:
            try:
                self._line.remove(ticket)
            except ValueError:
                return False
            return True
