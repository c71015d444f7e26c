"""FLStore-limited of section 5.5: the tailored policy with half the memory."""

from __future__ import annotations

from typing import ClassVar

from flstore.errors import InvalidParameterError
from flstore.policies.tailored import Tailored


class TailoredLimited(Tailored):
    """The tailored policy in a part of each function's memory.

    The engine takes that part for the whole, so everything is decided as on functions of that size: hit for hit the
    same as ``tailored`` with so much less memory.

    Parameters
    ----------
    share : float, default 0.5
        The part, above 0 and at most 1. The paper has half.
    window, last, rounds, cursors : int
        As for :class:`~flstore.policies.Tailored`.
    """

    name: ClassVar[str] = "tailored-limited"

    def __init__(
        self, share: float = 0.5, window: int = 10, last: int = 10, rounds: int = 10, cursors: int = 10_000
    ) -> None:
        if not 0 < share <= 1:
            raise InvalidParameterError(f"share must be above 0 and at most 1, got {share!r}")
        super().__init__(window, last, rounds, cursors)
        self.share = share
