"""The paper's policy: Table 1 chooses the class of a request, and each class keeps what its workloads read next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from flstore.policies.base import Policy, View
from flstore.policies.p1 import P1
from flstore.policies.p2 import P2
from flstore.policies.p3 import P3
from flstore.policies.p4 import P4
from flstore.types import Derive, Event, PolicyClass, Requested, Unwant, Want


class Tailored(Policy):
    """P1 to P4 side by side; a request goes to the class of its workload, everything else to all four.

    Wants are counted for each class, so that none evicts what another still needs.

    Parameters
    ----------
    window : int, default 10
        P2's window, rounds.
    last : int, default 10
        P1's number of requested updates.
    rounds : int, default 10
        P4's number of rounds.
    cursors : int, default 10000
        P3's number of clients.
    """

    name: ClassVar[str] = "tailored"

    def __init__(self, window: int = 10, last: int = 10, rounds: int = 10, cursors: int = 10_000) -> None:
        self.window, self.last, self.rounds, self.cursors = window, last, rounds, cursors
        self._classes: dict[PolicyClass, Policy] = {
            PolicyClass.P1: P1(last),
            PolicyClass.P2: P2(window),
            PolicyClass.P3: P3(cursors),
            PolicyClass.P4: P4(rounds),
        }

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant | Derive]:
        """Ask the class that the event concerns."""
        if isinstance(event, Requested):
            return self._classes[self._class_of(event)].decide(event, view)
        return [want for policy in self._classes.values() for want in policy.decide(event, view)]

    def _class_of(self, event: Requested) -> PolicyClass:
        return event.policy_class
