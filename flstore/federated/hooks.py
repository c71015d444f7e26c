"""Methods of one strategy instance that somebody listens to; its class stays as it is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_MARK = "_flstore_observers"


class Hook:
    """Takes the place of a bound method, and gives it to `seen` with the arguments of each call.

    Pickled or deep-copied it is the method alone: the copy of an observed strategy is not observed, and goes without
    the store. (``copy.copy`` shares its methods with the original, these among them.)
    """

    def __init__(self, seen: Callable[..., Any], inner: Callable[..., Any]) -> None:
        functools.update_wrapper(self, inner)
        self._seen, self._inner = seen, inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._seen(self._inner, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._inner,)


class _Observers(tuple[Any, ...]):
    """The stores that observe a strategy; in a copy of it, none."""

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, ()


def is_observed(strategy: Any, store: Any) -> bool:
    """Whether this instance is observed for this store."""
    return any(known is store for known in getattr(strategy, _MARK, ()))


def attach(strategy: Any, store: Any, methods: dict[str, Callable[..., Any]]) -> None:
    """Let `methods` listen to those of their names that the strategy has."""
    for name, seen in methods.items():
        inner = getattr(strategy, name, None)
        if inner is not None:
            setattr(strategy, name, Hook(seen, inner))
    setattr(strategy, _MARK, _Observers((*getattr(strategy, _MARK, ()), store)))


def _itself(method: Any) -> Any:
    return method
