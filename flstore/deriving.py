"""Has functions compute what requests will need of the data, once it is there and before anybody asks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from flstore.catalogue import Catalogue
from flstore.engine.view import View
from flstore.errors import FLStoreError
from flstore.functions import wire
from flstore.in_parts import order_of
from flstore.moves import Moves
from flstore.types import Key, Prepare
from flstore.workloads.base import Derivable, Scope, Workload

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
        self._asked: dict[str, Derivable] = {}

    def asked(self, workload: Workload) -> None:
        """Note a workload with its parameters: the next request is expected to have the same."""
        if isinstance(workload, Derivable):
            self._asked[workload.name] = workload

    def start(self, action: Prepare, after: Future[Any] | None = None) -> None:
        """Begin to derive what a workload will need of a round; after the request that caused it, if one did.

        Nothing comes of it where that is not possible.
        """
        workload = self._asked.get(action.what)
        if workload is not None and isinstance(action.keys.rounds, int):
            scope = Scope(self._catalogue.job, round=action.keys.rounds)
            self._moves.alongside(action.function, lambda: self._derive(action.function, workload, scope), after)

    async def _derive(self, function: int, workload: Derivable, scope: Scope) -> None:
        try:
            keys = self._needs(workload, scope)
            if not workload.derivation(keys):
                return
            with self._catalogue.lock:
                parts = self._catalogue.key_sets(keys)
                generations = self._catalogue.state.loading([(function, part) for part in parts])[1]
            await self._moves.wait_for(generations, urgent=False)
            await self._pool.call(function, "derive", request=self._order(function, workload, scope, keys))
        except FLStoreError as error:  # a request will compute it, or say what is wrong
            _log.info("%s of round %s was not derived: %s", workload.name, scope.round, error)

    def _order(self, function: int, workload: Derivable, scope: Scope, keys: list[Key]) -> bytes:
        objects: list[Any] = []
        with self._catalogue.lock:
            state = self._catalogue.state
            for part in self._catalogue.key_sets(keys):
                here = state.holds(function, part).tolist()
                about = View(state).size(part).tolist(), state.since(part).tolist(), here
                for key, size, since, held in zip(self._catalogue.keys(part), *about, strict=True):
                    objects.append([wire.key_values(key), size, "" if held else None, since])
        derivation = workload.derivation(keys)
        return wire.pack({**order_of(workload, scope), "objects": objects, "extra": [], "derivation": derivation})
