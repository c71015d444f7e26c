"""A Flower ``Grid`` in this process: real strategies and client apps, without a SuperLink or Ray."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from flstore.errors import InvalidParameterError

FIRST_NODE_ID = 1 << 63
"""Node id of client 0. In Flower these are unsigned and mostly beyond 63 bits; small ones would hide mistakes."""

_RUN_ID = 1


class LocalGrid(Grid):
    """Run a client app for a number of clients, called as the messages are sent.

    A client that raises answers with a Flower error message, as it would over a network. Clients see a copy of the
    records of a message, so that one cannot change what the next one reads.

    Parameters
    ----------
    client_app : flwr.clientapp.ClientApp
        Called once a message.
    clients : int
        Number of nodes. Their ids are ``FIRST_NODE_ID + i``, their node configuration holds ``partition-id`` and
        ``num-partitions``.
    workers : int
        Clients that run at the same time, in threads. With one, everything runs on the caller's thread and the order
        of all operations is fixed.
    run_config : dict, optional
        The run's configuration, as clients find it in their context.

    Raises
    ------
    InvalidParameterError
        Fewer than one client or worker.

    Notes
    -----
    Flower keeps the identity of the running task in its class ``TaskIdentity``; it is set here and put back by
    :meth:`close`. Use the grid as a context manager, and one at a time.

    Examples
    --------
    >>> from flwr.clientapp import ClientApp
    >>> with LocalGrid(ClientApp(), clients=3) as grid:
    ...     len(list(grid.get_node_ids()))
    3
    """

    def __init__(
        self,
        client_app: Callable[[Message, Context], Message],
        clients: int,
        workers: int = 1,
        run_config: Mapping[str, Any] | None = None,
    ) -> None:
        if clients < 1 or workers < 1:
            raise InvalidParameterError(f"clients={clients}, workers={workers}: both must be at least 1")
        self._app = client_app
        self._run = Run.create_empty(run_id=_RUN_ID)
        self._contexts = {FIRST_NODE_ID + i: _context(i, clients, run_config or {}) for i in range(clients)}
        self._replies: dict[str, Message] = {}
        self._ids = itertools.count(1)
        self._pool = ThreadPoolExecutor(workers, "flstore-client") if workers > 1 else None
        self._identity: tuple[Any, Any, Any] | None = (
            TaskIdentity._task_id,
            TaskIdentity._run_id,
            TaskIdentity._node_id,
        )
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, _RUN_ID, SUPERLINK_NODE_ID

    def set_run(self, run: Run) -> None:
        """Replace the description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The description of the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message to one node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All node ids, ascending."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the client of every message and keep the replies; returns the ids to pull them by."""
        sent = list(messages)
        for message in sent:
            self._stamp(message)
        replies = self._pool.map(self._reply, sent) if self._pool else map(self._reply, sent)
        for message, reply in zip(sent, replies, strict=True):
            self._stamp(reply)
            self._replies[message.metadata.message_id] = reply
        return [message.metadata.message_id for message in sent]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Take the replies to these messages, in the order given; ids without a reply are passed over."""
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Run the client of every message and return the replies. `timeout` has no effect: nothing is remote."""
        return self.pull_messages(self.push_messages(messages))

    def close(self) -> None:
        """Stop the threads, and put back the identity that Flower had before. May be called again."""
        if self._pool:
            self._pool.shutdown()
        if self._identity is not None:
            TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = self._identity
            self._identity = None

    def __enter__(self) -> LocalGrid:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LocalGrid({len(self._contexts)} clients)"

    def _reply(self, message: Message) -> Message:
        try:
            context = self._contexts[message.metadata.dst_node_id]
            return self._app(_copied(message), context)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message)

    def _stamp(self, message: Message) -> None:
        # Over a network the SuperLink numbers the messages; the attribute has no public setter.
        message.metadata.__dict__["_message_id"] = str(next(self._ids))


def _context(index: int, clients: int, run_config: Mapping[str, Any]) -> Context:
    return Context(
        run_id=_RUN_ID,
        node_id=FIRST_NODE_ID + index,
        node_config={"partition-id": index, "num-partitions": clients},
        state=RecordDict(),
        run_config=dict(run_config),
    )


def _copied(message: Message) -> Message:
    """The same message with records of its own; the arrays in them are immutable and are shared."""
    records = RecordDict({name: record.copy() for name, record in message.content.items()})
    copy: Message = Message(content=records, metadata=message.metadata)  # type: ignore[call-overload]
    return copy
