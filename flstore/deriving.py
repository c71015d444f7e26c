"""Has functions compute what requests will need of the data, once it is there and before anybody asks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from flstore.catalogue import Catalogue
from flstore.errors import FLStoreError
from flstore.functions import wire
from flstore.in_parts import located, order_of
from flstore.moves import Moves
from flstore.types import Key, Prepare
from flstore.workloads.base import Derivable, Piecewise, Scope, Workload

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool

_log = logging.getLogger(__name__)


class Deriving:
    """Derivations on their way.

    Parameters
    ----------
    pool : FunctionPool
        Where they are computed.
    catalogue : Catalogue
        What exists and where it is, with the lock that guards both.
    moves : Moves
        Loads on their way, which they wait for.
    needs : callable
        The keys that a workload reads for a scope.
    """

    def __init__(
        self, pool: FunctionPool, catalogue: Catalogue, moves: Moves, needs: Callable[[Workload, Scope], list[Key]]
    ) -> None:
        self._pool = pool
        self._catalogue = catalogue
        self._moves = moves
        self._needs = needs
        self._asked: dict[str, Derivable | Piecewise] = {}
        self._underway: set[tuple[int, str, frozenset[Key]]] = set()

    def asked(self, workload: Workload) -> None:
        """Note a workload with its parameters: the next request is expected to have the same."""
        if isinstance(workload, Derivable) or (isinstance(workload, Piecewise) and workload.piece):
            self._asked[workload.name] = workload

    def start(self, action: Prepare, after: Future[Any] | None = None) -> None:
        """Begin to derive what a workload will need of a round; after the request that caused it, if one did.

        Nothing comes of it where that is not possible.
        """
        workload = self._asked.get(action.what)
        if workload is not None and isinstance(action.keys.rounds, int):
            scope = Scope(self._catalogue.job, round=action.keys.rounds)
            self._moves.alongside(action.function, lambda: self._derive(action.function, workload, scope), after)

    async def _derive(self, function: int, workload: Derivable | Piecewise, scope: Scope) -> None:
        try:
            keys = self._needs(workload, scope)
            name = workload.piece if isinstance(workload, Piecewise) else workload.derivation(keys)
            objects = await self._held(function, keys) if name else None
            what = function, name, frozenset(keys)
            if objects is None or what in self._underway:  # several workloads need the same of a round
                return
            self._underway.add(what)
            try:
                order = {**order_of(workload, scope), "objects": objects, "extra": []}
                order["piece" if isinstance(workload, Piecewise) else "derivation"] = name
                await self._pool.call(function, "derive", request=wire.pack(order))
            finally:
                self._underway.discard(what)
        except FLStoreError as error:  # a request will compute it, or say what is wrong
            _log.info("%s of round %s was not derived: %s", workload.name, scope.round, error)

    async def _held(self, function: int, keys: list[Key]) -> list[Any] | None:
        """Where everything is, once the function has it; None where it does not get all by itself.

        Nothing is fetched for what nobody has asked for.
        """
        parts = self._catalogue.key_sets(keys)
        with self._catalogue.lock:
            generations = self._catalogue.state.loading([(function, part) for part in parts]).generations
        await self._moves.wait_for(generations, urgent=False)
        with self._catalogue.lock:
            if not all(self._catalogue.state.holds(function, part).all() for part in parts):
                return None
            return [entry for part in parts for entry in located(self._catalogue, part, "")]
