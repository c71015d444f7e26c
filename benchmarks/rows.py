"""One figure of a benchmark: what was measured, against whom, and whether the goal was met."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.timing import Spread


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes
    ----------
    name : str
        What was measured; unique within a run.
    value : float or str
        The figure (a median where it was repeated), or a finding in words.
    unit : str
        Of `value`; empty for words.
    peer : str
        What it is compared with, in the same run; empty when with nothing.
    ratio : float or None
        `value` over the peer's value, both in the same unit.
    goal : str
        What is asked for; empty when the figure is for information.
    met : bool or None
        Whether the goal was met; None without one.
    note : str
        What a reader has to know.
    quartiles : tuple of float or None
        First and third quartile, where it was repeated.
    repetitions : int
        How often it was measured.
    """

    name: str
    value: float | str
    unit: str = ""
    peer: str = ""
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None
    note: str = ""
    quartiles: tuple[float, float] | None = None
    repetitions: int = 1

    def __post_init__(self) -> None:
        if bool(self.goal) != (self.met is not None):
            raise ValueError(f"{self.name!r}: goal {self.goal!r} with met={self.met!r}; give both or none")
        if bool(self.peer) != (self.ratio is not None):
            raise ValueError(f"{self.name!r}: peer {self.peer!r} with ratio={self.ratio!r}; give both or none")


def timed(
    name: str, spread: Spread, *, peer: str = "", against: Spread | float | None = None,
    at_most: float | None = None, note: str = "",
) -> Row:  # fmt: skip
    """The row of a duration, in milliseconds.

    Parameters
    ----------
    name : str
        What took this long.
    spread : Spread
        Seconds.
    peer : str
        What it is compared with.
    against : Spread or float, optional
        The peer's seconds.
    at_most : float, optional
        The goal: the largest ratio to the peer.
    note : str
        What a reader has to know.
    """
    seconds = against.median if isinstance(against, Spread) else against
    ratio = None if seconds is None else spread.median / seconds
    goal = "" if at_most is None else f"at most {at_most:g} x the peer"
    met = None if at_most is None or ratio is None else ratio <= at_most
    quartiles = (spread.low * 1e3, spread.high * 1e3)
    return Row(name, spread.median * 1e3, "ms", peer, ratio, goal, met, note, quartiles, spread.repetitions)
