"""What the metadata of rounds tells about how they were observed: which node was which client, and what was hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NODE_ID = "node_id"
"""Field of a client's metadata: the number that the framework gave the process which answered for it."""

HIDDEN = "update_hidden"
"""Field of a client's metadata, True when its own model could not be seen: secure aggregation shows only the sum."""


class Observed:
    """Notes from metadata as it is read from the persistent store and taken in; so it outlives the process.

    Attributes
    ----------
    nodes : dict of str to str
        Client id by node id, of nodes that have said who they are.
    hidden : set of int
        Rounds in which clients answered without showing their own models.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}
        self.hidden: set[int] = set()

    def note(self, round: int, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Take note of the metadata of a round, or of some clients of it. Rounds come in ascending order."""
        for client, row in rows.items():
            if row.get(HIDDEN) is True:
                self.hidden.add(round)
            node = row.get(NODE_ID)
            if isinstance(node, str) and node != client:
                self.nodes[node] = client

    def why_hidden(self, round: int | None = None) -> str:
        """Why there are no updates of `round` (of any round, without one), as the end of a message; else nothing."""
        rounds = sorted(self.hidden) if round is None else [round] if round in self.hidden else []
        if not rounds:
            return ""
        which = f"round {rounds[0]}" if len(rounds) == 1 else f"{len(rounds)} rounds from {rounds[0]} to {rounds[-1]}"
        return (
            f". In {which} no client showed a model of its own, as under secure aggregation: only aggregates "
            f"(store.aggregate({rounds[-1]})) and metadata exist, and requests about single clients' updates cannot be "
            f"answered"
        )
