"""A store goes on without what its policy does wrong, and says so once of each kind."""

from __future__ import annotations

import warnings

from flstore.engine import EventLog, State, step
from flstore.errors import PolicyError
from flstore.policies.base import Policy
from flstore.types import Action, Event, Refused

_NO_SUCH_OBJECT = "there is no such object"


class PolicyFaults:
    """Lets a policy decide about events, writes the log, and remembers what has to be said about the policy.

    What it wants and cannot have because memory is short is in the log alone (``log.faults()``): under pressure that is
    as it should be. Everything else is a mistake, of which a warning tells the first time.

    Parameters
    ----------
    log : EventLog
        Where events go, with all that was wrong about what the policy said.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._seen: set[str] = set()
        self._unsaid: list[str] = []

    def step(self, state: State, policy: Policy, event: Event) -> list[Action]:
        """Apply an event, without the policy if that fails; called in the order of the events."""
        error: PolicyError | None = None
        try:
            actions = step(state, policy, event)
        except PolicyError as failed:
            error, actions = failed, list(failed.actions)
        self._log.append(event, actions, error)
        if error is not None:
            self._note(type(error.__cause__).__name__, str(error))
        for action in actions:
            if isinstance(action, Refused) and action.reason == _NO_SUCH_OBJECT:
                absent = self._log.entries[-1].faults[-1]
                self._note(action.reason, f"policy {policy.name!r} wants what nobody has, on {event}: {absent}")
        return actions

    def _note(self, kind: str, message: str) -> None:
        if kind not in self._seen:
            self._seen.add(kind)
            self._unsaid.append(message)

    def tell(self) -> None:
        """Warn of what is new. Not from within a decision: a warning may be turned into an error."""
        while self._unsaid:
            message = self._unsaid.pop(0)
            warnings.warn(
                f"{message}. The store goes on without it; store.log.faults() lists all that follow",
                RuntimeWarning,
                stacklevel=3,
            )
