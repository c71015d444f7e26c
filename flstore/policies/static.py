"""FLStore-Static of section 5.5: one class for everything, whatever the workload is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from flstore.errors import InvalidParameterError
from flstore.policies.base import Policy, View
from flstore.policies.p1 import P1
from flstore.policies.p2 import P2
from flstore.policies.p3 import P3
from flstore.policies.p4 import P4
from flstore.types import Derive, Event, PolicyClass, Unwant, Want


class Static(Policy):
    """One class of Table 1 for all requests.

    Parameters
    ----------
    policy_class : {"P1", "P2", "P3", "P4"}, default "P2"
        Which one, with its default parameters. The paper does not say which it fixed; most workloads of Table 1 are
        P2, so nothing else does better on them.
    """

    name: ClassVar[str] = "static"

    def __init__(self, policy_class: str = "P2") -> None:
        classes: dict[str, type[Policy]] = {"P1": P1, "P2": P2, "P3": P3, "P4": P4}
        if policy_class not in classes:
            raise InvalidParameterError(f"policy_class must be one of {', '.join(classes)}, got {policy_class!r}")
        self.policy_class = PolicyClass(policy_class)
        self._policy = classes[policy_class]()

    def decide(self, event: Event, view: View) -> Iterable[Want | Unwant | Derive]:
        """Ask that class."""
        return self._policy.decide(event, view)
