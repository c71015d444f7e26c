"""Who a client is, whichever process answers for it: stated in its replies, remembered by the rounds' metadata."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from flstore.errors import InvalidIdError, InvalidParameterError
from flstore.federated.feeder import warn
from flstore.federated.replies import Reply
from flstore.persistence.layout import encode_id

CLIENT_RECORD = "flstore"
"""Name of the ``ConfigRecord`` by which a reply says who sent it."""

CLIENT_KEY = "client-id"
"""Entry of that record: a string that stays the same when the client restarts."""

CLIENT_METRIC = f"{CLIENT_RECORD}.{CLIENT_KEY}"
"""The metric that says it in Flower's older interface, which has no records."""

_R = TypeVar("_R")


def identify(reply: _R, client_id: str) -> _R:
    """Say in a reply who sends it: the one line of a client that wants to stay the same when it restarts.

    Parameters
    ----------
    reply : flwr.app.Message, RecordDict, FitRes, EvaluateRes or dict
        What the client is about to return, or the ``content`` of it; in the older interface the result, or the dict of
        metrics that a ``NumPyClient`` returns (a server that aggregates metrics then meets one that is text).
    client_id : str
        The id. Not a secret; whoever can send replies can send any id.

    Returns
    -------
    same as `reply`
        Changed in place. An error message cannot say who sent it and is left as it is.

    Raises
    ------
    InvalidIdError
        Empty, no string, or over 200 bytes once percent-encoded.
    InvalidParameterError
        `reply` is none of these.

    Examples
    --------
    >>> identify({"loss": 0.5}, "hospital-3")
    {'loss': 0.5, 'flstore.client-id': 'hospital-3'}

    With messages: ``return identify(Message(content, reply_to=message), "hospital-3")``.
    """
    encode_id("client", client_id)
    target: Any = reply
    if hasattr(target, "has_error"):
        if target.has_error():
            return reply
        target = target.content
    if hasattr(target, "config_records"):
        from flwr.app import ConfigRecord

        target[CLIENT_RECORD] = ConfigRecord({CLIENT_KEY: client_id})
        return reply
    metrics = target if isinstance(target, dict) else getattr(target, "metrics", None)
    if not isinstance(metrics, dict):
        raise InvalidParameterError(
            f"{type(reply).__name__} cannot say who sent it: give identify() a Flower message, its content, a FitRes, "
            f"an EvaluateRes or a dict of metrics"
        )
    metrics[CLIENT_METRIC] = client_id
    return reply


def stated_id(content: Any) -> Any:
    """What a reply of the message interface says that its sender is; None when it does not."""
    return content.config_records.get(CLIENT_RECORD, {}).get(CLIENT_KEY)


class Clients:
    """Client ids of the nodes that answer.

    Parameters
    ----------
    store : Ingests
        Asked with ``client_of(node_id)``, where it has that, for nodes that were seen before this process.
    """

    def __init__(self, store: Any) -> None:
        self._client_of = getattr(store, "client_of", None)
        self._names: dict[str, str] = {}

    def known(self, node: str) -> str | None:
        """Who a node has said it is, in this process or an earlier one."""
        name = self._names.get(node)
        return name if name is not None or self._client_of is None else self._client_of(node)

    def name(self, round: int, replies: Iterable[Reply]) -> list[str]:
        """The client id of each reply: what it states, else what its node stated before, else its node id.

        Of several nodes with one id in a round, one has it, always the same one; the others go by their node ids.
        """
        replies = list(replies)
        claims = [self._claim(round, reply) for reply in replies]
        holders: dict[str, str] = {}
        order = sorted(range(len(replies)), key=lambda i: (replies[i].stated is None, replies[i].node))
        for i in order:
            if not replies[i].error:
                holders.setdefault(claims[i], replies[i].node)
        found = []
        for reply, claim in zip(replies, claims, strict=True):
            if not reply.error and holders[claim] != reply.node:
                warn(
                    f"Round {round}: two replies have the client id {claim!r}; that of node {reply.node} is kept under "
                    f"its node id. Give each client an id of its own: flstore.federated.identify(reply, 'its-id')."
                )
                claim = reply.node
            elif reply.stated is not None:
                self._names[reply.node] = claim
            found.append(claim)
        return found

    def _claim(self, round: int, reply: Reply) -> str:
        if reply.stated is not None:
            try:
                encode_id("client", reply.stated)
                return str(reply.stated)
            except InvalidIdError as error:
                warn(f"Round {round}: node {reply.node} goes by its node id, not by what it says it is: {error}")
                reply.stated = None
        return self.known(reply.node) or reply.node
