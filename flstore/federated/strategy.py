"""Flower's strategies, observed: the one line of a Flower app that changes is its import.

::

    from flwr.serverapp.strategy import FedAvg  # before
    from flstore.federated.strategy import FedAvg  # after

Every strategy of ``flwr.serverapp.strategy`` is here, under its own name: a class derived from it whose ``start``
opens a store, lets it observe the run, and closes it when all is stored. Where the store is, is said by the environment
of the process that the server app runs in: ``FLSTORE_ROOT`` (default ``./flstore-data``) and ``FLSTORE_JOB`` (default
``default``). Open it there to ask, with ``FLStore.local(root=...)`` after the run, with ``FLStore.attach(root)`` during
it. An app that wants to ask its store by itself opens one and uses ``store.observe(strategy)`` instead.

The names are looked up when they are used, so that this module lists none.
"""

from __future__ import annotations

import inspect
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from flwr.serverapp import strategy as _flower

from flstore.errors import InvalidParameterError
from flstore.federated.feeder import warn

if TYPE_CHECKING:
    from flstore.store import FLStore

ROOT, JOB = "FLSTORE_ROOT", "FLSTORE_JOB"


class _Observed:
    """Before a strategy in its line of bases: opens a store for the time of a run."""

    def start(self, *args: Any, **kwargs: Any) -> Any:
        store = _open()
        try:
            store.observe(self)
            return super().start(*args, **kwargs)  # type: ignore[misc]
        finally:
            try:
                store.close()
            except Exception as error:  # the model is worth more than its history
                warn(f"Not all of the run was recorded below {store.root}: {type(error).__name__}: {error}")


def _open() -> FLStore:
    from flstore.store import FLStore

    root, job = os.environ.get(ROOT, "./flstore-data"), os.environ.get(JOB, "default")
    store = FLStore.local(functions=1, root=root, job=job)
    if there := store.rounds():
        store.close()
        raise InvalidParameterError(
            f"job {job!r} below {store.root} has rounds {there[0]} to {there[-1]} of an earlier run already: set "
            f"{ROOT} to another place, or {JOB} to another name"
        )
    return store


@cache
def _observed(name: str) -> type:
    return type(name, (_Observed, getattr(_flower, name)), {"__module__": __name__})


def __getattr__(name: str) -> Any:
    if name.startswith("_") or not hasattr(_flower, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; nor has flwr.serverapp.strategy")
    original = getattr(_flower, name)
    if inspect.isclass(original) and issubclass(original, _flower.Strategy) and not inspect.isabstract(original):
        return _observed(name)
    return original


def __dir__() -> list[str]:
    return sorted(name for name in dir(_flower) if not name.startswith("_"))
