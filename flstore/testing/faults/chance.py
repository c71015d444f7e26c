"""Faults by chance, with a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flstore.errors import InvalidParameterError
from flstore.testing.faults.files import corrupt, lose, restored, tear
from flstore.testing.faults.processes import await_function, functions, hang, kill, slow
from flstore.types import Key, Kind

if TYPE_CHECKING:
    from flstore import FLStore

LASTING: dict[str, Callable[[FLStore, str], AbstractContextManager[None]]] = {"hang": hang, "slow": slow}
_DAMAGE: dict[str, Callable[[str, Key], object]] = {"tear": tear, "corrupt": corrupt, "lose": lose}
KINDS = ("kill", *LASTING, *_DAMAGE)


@dataclass(frozen=True)
class RandomFault:
    """One fault that :func:`random_faults` chose.

    Parameters
    ----------
    number : int
        Its place in the row of faults.
    kind : str
        One of :data:`KINDS`.
    target : str or Key
        The name of a function, or the key of an update.
    store : FLStore
        What it strikes.
    """

    number: int
    kind: str
    target: str | Key
    store: FLStore = field(repr=False, compare=False)

    def applied(self) -> AbstractContextManager[None]:
        """Apply it for a block; at the end everything is as before: functions are back, files whole."""
        if isinstance(self.target, Key):
            return restored(self.store.root, self.target, _DAMAGE[self.kind])
        return _struck(self.store, self.kind, self.target)

    def __str__(self) -> str:
        return f"fault {self.number}: {self.kind} {self.target}"


def random_faults(
    store: FLStore, kinds: Iterable[str] = ("kill", "hang", "slow"), seed: int = 0
) -> Iterator[RandomFault]:
    """Faults without end. An equal seed gives an equal order, on stores with equal functions and updates.

    Parameters
    ----------
    store : FLStore
        Functions are those that it has at the start; updates those that it has when the fault is drawn (flush first).
    kinds : iterable of str
        Some of ``kill``, ``hang``, ``slow``, ``tear``, ``corrupt``, ``lose``.
    seed : int, default 0

    Raises
    ------
    InvalidParameterError
        An unknown kind, or none.

    Examples
    --------
    >>> for fault in itertools.islice(random_faults(store, seed=7), 20):  # doctest: +SKIP
    ...     with fault.applied():
    ...         store.request("clustering", round=3)
    """
    chosen = sorted(set(kinds))
    if not chosen or not set(chosen) <= set(KINDS):
        raise InvalidParameterError(f"kinds={chosen}: name at least one of {', '.join(KINDS)}")
    return _draw(store, chosen, list(functions(store)), random.Random(seed))


def _draw(store: FLStore, kinds: list[str], names: list[str], rng: random.Random) -> Iterator[RandomFault]:
    number = 0
    while True:
        number += 1
        kind = rng.choice(kinds)
        if kind in _DAMAGE:
            round = rng.choice(list(store.rounds()))
            key = Key(store.job, Kind.UPDATE, round, rng.choice(list(store.clients(round))))
            yield RandomFault(number, kind, key, store)
        else:
            yield RandomFault(number, kind, rng.choice(names), store)


@contextmanager
def _struck(store: FLStore, kind: str, name: str) -> Iterator[None]:
    """Strike a function for a block; before and after it, the function is alive."""
    await_function(store, name)
    if kind in LASTING:
        with LASTING[kind](store, name):
            yield
    else:
        before = functions(store)[name]
        kill(store, name)
        try:
            yield
        finally:
            await_function(store, name, before)
