"""Back from the store into training: stored tensors as PyTorch, Flower or NumPy takes them, and rounds that count on.

Nothing here imports torch or Flower before it is used.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError, OptionalDependencyError

_S = TypeVar("_S")
_WITH_A_ROUND = (
    *("configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate"),
    *("configure_fit", "aggregate_fit", "evaluate"),
)
"""Methods of Flower's strategies whose first argument is the round, in both of its interfaces."""


def check_kind(kind: str) -> None:
    """Raise InvalidParameterError unless a model can be restored as `kind`."""
    if kind not in KINDS:
        raise InvalidParameterError(f"kind={kind!r}: a model is restored as one of {', '.join(map(repr, KINDS))}")


def convert(tensors: Mapping[str, NDArray[Any]], kind: str) -> Any:
    """Stored tensors as `kind` (see :meth:`flstore.system.System.restore`), in memory of their own."""
    return KINDS[kind](tensors)


def resume(strategy: _S, after: int) -> _S:
    """Make a Flower strategy count its rounds on from `after`; returns the same strategy.

    Flower numbers the rounds of every ``start`` from 1. A training that goes on from a stored model would then send the
    rounds of its beginning to the store again, and its clients, if they seed their batches by the round, would repeat
    them. The strategy, what it sends to clients, and the store see the rounds ``after + 1``, ``after + 2``, ...

    Parameters
    ----------
    strategy : flwr.serverapp.strategy.Strategy or flwr.server.strategy.Strategy
        Observe it first. Bound methods of this instance are replaced.
    after : int
        The newest round that is done: that of the restored aggregate.

    Raises
    ------
    InvalidParameterError
        `after` is no number of rounds, or `strategy` is no Flower strategy.

    Notes
    -----
    The ``Result`` of ``start``, and the function that it is given as ``evaluate_fn``, count from 0 as before.

    Examples
    --------
    >>> from flwr.serverapp.strategy import FedAvg
    >>> strategy = resume(store.observe(FedAvg()), after=3)

    What it starts from, in the main of a ServerApp; the rounds are 4 to 6:

    >>> strategy.start(grid, store.restore(3, kind="array_record"), num_rounds=3)  # doctest: +SKIP
    """
    if isinstance(after, bool) or not isinstance(after, int) or after < 0:
        raise InvalidParameterError(f"after is the number of a round, from 0 on, got {after!r}")
    methods = [name for name in _WITH_A_ROUND if hasattr(strategy, name)]
    if "aggregate_train" not in methods and "aggregate_fit" not in methods:
        raise InvalidParameterError(
            f"{type(strategy).__name__} is no Flower strategy; give resume() one such as FedAvg()"
        )
    for name in methods:
        setattr(strategy, name, _shifted(getattr(strategy, name), after))
    return strategy


def _shifted(inner: Callable[..., Any], by: int) -> Callable[..., Any]:
    @functools.wraps(inner)
    def method(server_round: int, *args: Any, **kwargs: Any) -> Any:
        return inner(server_round + by, *args, **kwargs)

    return method


def _arrays(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.array(array, order="C") for name, array in tensors.items()}


def _state_dict(tensors: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise OptionalDependencyError.of("torch", "torch", "A state dict") from error
    return {name: _torch(torch, array) for name, array in _arrays(tensors).items()}


def _torch(torch: Any, array: NDArray[Any]) -> Any:
    name = array.dtype.name
    if array.dtype.isbuiltin == 1:
        return torch.from_numpy(array)
    if not hasattr(torch, name):
        raise InvalidParameterError(f"this version of torch has no dtype {name!r}; restore with kind='arrays'")
    bits = array.view(np.int16 if array.dtype.itemsize == 2 else np.uint8)
    return torch.from_numpy(bits).view(getattr(torch, name))


def _array_record(tensors: Mapping[str, NDArray[Any]]) -> Any:
    try:
        from flwr.app import Array, ArrayRecord
    except ModuleNotFoundError as error:
        raise OptionalDependencyError.of("flwr", "flower", "An ArrayRecord") from error
    return ArrayRecord({name: Array(array) for name, array in tensors.items()})


KINDS: dict[str, Callable[[Mapping[str, NDArray[Any]]], Any]] = {
    "state_dict": _state_dict,
    "array_record": _array_record,
    "arrays": _arrays,
}
"""What a model is restored as, by name."""
