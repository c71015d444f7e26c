"""FLStore-Random of section 5.5: a class by chance, whatever the workload is."""

from __future__ import annotations

import random
from typing import ClassVar

from flstore.policies.tailored import Tailored
from flstore.types import PolicyClass, Requested

_CLASSES = tuple(PolicyClass)


class Random(Tailored):
    """The four classes side by side, and each request goes to one of them by chance.

    What the classes keep without being asked (P1 the newest aggregate, P4 the metadata of the last rounds) they keep
    here too.

    Parameters
    ----------
    seed : int, default 0
        Of the choices. They depend on it and on the number of requests before, so a replay makes the same.
    window, last, rounds, cursors : int
        As for :class:`~flstore.policies.Tailored`.
    """

    name: ClassVar[str] = "random"

    def __init__(
        self, seed: int = 0, window: int = 10, last: int = 10, rounds: int = 10, cursors: int = 10_000
    ) -> None:
        super().__init__(window, last, rounds, cursors)
        self.seed = seed
        self._random = random.Random(seed)

    def _class_of(self, event: Requested) -> PolicyClass:
        return _CLASSES[int(self._random.random() * len(_CLASSES))]
