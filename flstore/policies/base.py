"""What a caching policy is: one method that says what it wants in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from flstore.types import Derive, Event, IntArray, KeySet, Kind, Unwant, Want


class View(Protocol):
    """What a policy may see: what exists and what is held, in logical terms. Jobs and clients are interned integers."""

    def latest(self, job: int, kind: Kind = Kind.UPDATE) -> int | None:
        """The newest round with objects of `kind`."""
        ...

    def rounds(self, job: int, first: int, last: int, kind: Kind = Kind.UPDATE) -> list[int]:
        """Existing rounds from `first` to `last`, both included, ascending."""
        ...

    def newest(self, job: int, count: int, kind: Kind) -> list[int]:
        """The last `count` rounds that exist, ascending."""
        ...

    def next_round(self, job: int, round: int) -> int | None:
        """The first existing round after `round`."""
        ...

    def jobs(self, kind: Kind) -> list[int]:
        """Jobs that have objects of `kind`."""
        ...

    def participants(self, job: int, round: int, kind: Kind = Kind.UPDATE) -> IntArray:
        """Clients with an object of `kind` in `round`. Not to be changed."""
        ...

    def next_participation(self, job: int, client: int, round: int) -> int | None:
        """The first round after `round` in which `client` took part."""
        ...

    def previous_participation(self, job: int, client: int, round: int) -> int | None:
        """The last round before `round` in which `client` took part."""
        ...

    def aggregate(self, job: int, round: int) -> bool:
        """Whether the aggregate of `round` exists."""
        ...

    def held(self, keys: KeySet) -> NDArray[np.bool_]:
        """Whether each object is held by a function, ready or not."""
        ...

    def size(self, keys: KeySet) -> IntArray:
        """Bytes of each object; 0 where it does not exist."""
        ...

    @property
    def free_bytes(self) -> int:
        """Logical bytes that all functions together have left."""
        ...

    @property
    def capacity_bytes(self) -> int:
        """Logical bytes of all functions together."""
        ...

    @property
    def largest_function_bytes(self) -> int:
        """Capacity of the largest function: no object above it can be held."""
        ...


class Policy(ABC):
    """Base of all caching policies.

    A policy wants; it never evicts. The engine counts how many owners want an object: the first want loads it, the last
    one withdrawn drops it. Where it goes, and what happens when memory is short, is the engine's business.

    A policy must decide on the event, the view and its own past alone: no clock, no unseeded randomness. The live
    store and the simulator run the same class.

    Attributes
    ----------
    name : str
        The name under which it is registered.
    share : float
        The part of each function's memory that objects may take under this policy, above 0 and at most 1. The engine
        counts no more as capacity, neither here (``view.capacity_bytes``) nor where it finds room.
    needs_future : bool
        Whether it decides by requests that are still to come. Such a policy has a class method ``from_future(requests,
        **params)``, which a replay gives all its ``Requested`` events in order; a live store refuses it.
    """

    name: ClassVar[str]
    share: float = 1.0
    needs_future: ClassVar[bool] = False

    @abstractmethod
    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant | Derive]:
        """Say what `event` changes about what should be in memory.

        Parameters
        ----------
        event : Event
            Any but ``Loaded``; already part of the view. After ``Deleted``, objects do not exist and nobody wants them:
            a policy that remembers some must forget them, and never want them again unless they are ingested anew.
        view : View
            What exists and what is held.

        Returns
        -------
        iterable of Want, Unwant or Derive
            Owners are any hashable values of the policy's own; wanting twice is wanting once. What is derived goes with
            the objects that it was derived from.
        """

    def __repr__(self) -> str:
        from flstore.display.policy import text

        return text(self)

    def _repr_html_(self) -> str:
        from flstore.display.policy import html

        return html(self)
