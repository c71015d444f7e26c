"""More functions, or fewer: what is in memory moves before a function is taken away."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flstore.engine.state import State
from flstore.errors import ClusterError, InvalidParameterError
from flstore.types import Event, FunctionLeaving

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool
    from flstore.moves import Moves
    from flstore.serving import Serving

_LOOK_S = 0.05
DRAIN_S = 30.0
"""How long requests that run on a function may go on before it is taken away; then they run again elsewhere."""


class Elasticity:
    """Changes the number of functions.

    Parameters
    ----------
    pool, moves, serving : FunctionPool, Moves, Serving
        The functions, and what is under way to them.
    state, lock : State and lock
        Where everything is.
    report : callable
        Takes the event that a function will leave.
    """

    def __init__(
        self, pool: FunctionPool, moves: Moves, serving: Serving, state: State, lock: Any,
        report: Callable[[Event], Any],
    ) -> None:  # fmt: skip
        self._pool, self._moves, self._serving = pool, moves, serving
        self._state, self._lock = state, lock
        self._report = report
        self._one_at_a_time = threading.Lock()

    def scale(self, functions: int) -> None:
        """Have so many functions; see :meth:`flstore.FLStore.scale`."""
        _check_count(functions)
        with self._one_at_a_time:
            leaving = self._emptiest(len(self._pool.functions) - functions)
            if self._pool.cluster is not None:
                for number in leaving:
                    self._report(FunctionLeaving(number))
                if leaving:
                    self._moves.wait()
                    self._serving.drain(leaving, DRAIN_S)
            going = [f for number in leaving if (f := self._pool.functions.get(number)) is not None]
            self._pool.resize(functions, going)

    def wait_for(self, functions: int, timeout_s: float | None) -> None:
        """Wait until there are so many; see :meth:`flstore.FLStore.wait_for_functions`."""
        _check_count(functions)
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while (there := len(self._pool.functions)) < functions:
            if time.monotonic() >= until:
                raise ClusterError(
                    f"there are {there} functions, and not {functions}, after {timeout_s} s; the workers of a cluster "
                    f"need enough free memory (memory=...), a store of your own grows by store.scale({functions})"
                )
            time.sleep(_LOOK_S)

    def _emptiest(self, count: int) -> list[int]:
        """Functions that hold least, of equals the youngest; those that do not answer first."""
        with self._lock:
            used = {number: f.used_bytes for number, f in self._state.functions.items()}
        silent = self._pool.silent()
        known = sorted(self._pool.functions, key=lambda n: (n not in silent, used.get(n, 0), -n))
        return known[: max(0, count)]


def _check_count(functions: int) -> None:
    if isinstance(functions, bool) or not isinstance(functions, int) or functions < 1:
        raise InvalidParameterError(f"functions must be an integer of at least 1, got {functions!r}")
