"""What the paper claims, and what a rule can say about a claim."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from flstore.errors import InvalidParameterError

CLAIMS = Path(__file__).parent / "claims.csv"


class Verdict(StrEnum):
    """How a claim fared."""

    REPRODUCED = "reproduced"
    """Found as printed, within the tolerance that the rule states."""
    EXCEEDED = "exceeded"
    """Found better than printed, by more than the tolerance."""
    DIFFERS = "differs"
    CANNOT = "cannot be tested here"
    """There is data, but it cannot bear on the claim; the reason says why."""
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of ``claims.csv``: a number or statement of the paper, as printed."""

    id: str
    section: str
    experiment: str
    quantity: str
    system: str
    baseline: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found. Values are text, because claims are ranges, pairs and statements as well as numbers.

    Attributes
    ----------
    measured : str
        From real processes of this machine, or counted in a replay; empty when there is none.
    modelled : str
        From measured parts put through a named link and price sheet; empty when there is none.
    strong_baseline : str
        The same quantity against the strongest baseline at hand, not the paper's.
    source : str
        The experiment that decided.
    """

    verdict: Verdict
    reason: str
    measured: str = ""
    modelled: str = ""
    strong_baseline: str = ""
    source: str = ""


def read_claims(path: Path = CLAIMS) -> list[Claim]:
    """All claims, in the order of the file. Raises :class:`InvalidParameterError` when an id comes twice."""
    with path.open(newline="", encoding="utf-8") as file:
        claims = [Claim(**row) for row in csv.DictReader(file)]
    ids = [claim.id for claim in claims]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise InvalidParameterError(f"{path.name} has more than one row with the id {', '.join(twice)}")
    return claims
