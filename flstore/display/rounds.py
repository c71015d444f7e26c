"""How the rounds of a job look: what the persistent store holds of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flstore.display.words import aligned, count, printable, size

_HEAD = ("round", "clients", "size", "aggregate", "metadata")


@dataclass(frozen=True)
class RoundListed:
    """One round of a listing.

    Attributes
    ----------
    round : int
        The round.
    clients : int
        Client updates that are stored.
    size_bytes : int
        Of these and of the aggregate.
    aggregate, metadata : bool
        Whether it has them.
    """

    round: int
    clients: int
    size_bytes: int
    aggregate: bool
    metadata: bool


def text(job: str, found: Sequence[RoundListed]) -> str:
    """A line for each round, and above them what they come to."""
    total = size(sum(r.size_bytes for r in found))
    rows = [(f"{r.round}", f"{r.clients:,}", size(r.size_bytes), _yes(r.aggregate), _yes(r.metadata)) for r in found]
    return "\n".join([f"Job {printable(job)}: {count(len(found), 'round')}, {total}", *aligned(_HEAD, rows)])


def _yes(there: bool) -> str:
    return "yes" if there else "-"
