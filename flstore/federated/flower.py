"""Observe any Flower strategy: what its clients send goes to a store, and the strategy notices nothing.

Both of Flower's interfaces are understood: messages (``configure_train``, ``aggregate_train``) and the older one
(``configure_fit``, ``aggregate_fit``). Nothing here imports Flower.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from numpy.typing import NDArray

from flstore.errors import InvalidParameterError, InvalidUpdateError
from flstore.federated.feeder import Feeder, Ingests, Parcel, Tensors, warn
from flstore.federated.npy import decode_npy

CLIENT_RECORD = "flstore"
"""Name of the ``ConfigRecord`` by which a reply says who sent it."""

CLIENT_KEY = "client-id"
"""Entry of that record: a string that stays the same when the client restarts."""

_S = TypeVar("_S")
_MARK = "_flstore_observers"
_SCALARS = (bool, int, float, str)


def observe(store: Ingests, strategy: _S, *, buffer_bytes: int = 1 << 30) -> _S:
    """Record every round of a Flower strategy in a store; returns the same strategy.

    What clients send, the global model after each round (and the one that training starts from, as that of the round
    before the first), and as metadata the clients' metrics, the scalars of the configuration that they were sent, their
    node id, their errors and ``reply_s`` (seconds from making the message to making its reply, by the clocks of both
    machines). Metrics of an evaluation get the prefix ``eval_``.

    A client is known by the string that its reply holds under ``CLIENT_RECORD`` and ``CLIENT_KEY``; without one, by its
    node id, which is another one each time that a client restarts. Clients can say who they are with::

        reply["flstore"] = ConfigRecord({"client-id": "hospital-3"})

    Parameters
    ----------
    store : Ingests
        An open store, such as ``FLStore``. Flushing and closing it includes what was observed.
    strategy : flwr.serverapp.strategy.Strategy or flwr.server.strategy.Strategy
        Bound methods of this instance are replaced; its class and attributes are not. Observing it again for the same
        store does nothing.
    buffer_bytes : int
        Bytes of updates that may wait to be ingested before training waits for the store.

    Raises
    ------
    InvalidParameterError
        `strategy` has neither interface, or `buffer_bytes` is below one.

    Notes
    -----
    The training thread only copies dictionaries: arrays of Flower hold immutable bytes. They are decoded, encoded and
    written by another thread. A store that fails does not stop training: it is reported by a warning once a round and
    raised by ``store.flush()``.

    With differential privacy on the server, ``observe(store, DP(FedAvg()))`` records what clients sent, and
    ``DP(observe(store, FedAvg()))`` what is left of it after clipping.

    Examples
    --------
    >>> from flwr.serverapp.strategy import FedAvg
    >>> strategy = observe(store, FedAvg())  # doctest: +SKIP
    """
    observed: tuple[Any, ...] = getattr(strategy, _MARK, ())
    if any(o is store for o in observed):
        return strategy
    if hasattr(strategy, "aggregate_train"):
        watch: type[_Observer] = _Messages
    elif hasattr(strategy, "aggregate_fit"):
        watch = _Legacy
    else:
        raise InvalidParameterError(
            f"{type(strategy).__name__} is no Flower strategy: it has neither aggregate_train nor aggregate_fit. "
            "Give observe() an instance of one, such as FedAvg()."
        )
    feeder = Feeder(store, buffer_bytes)
    watch(feeder).attach(strategy)
    setattr(strategy, _MARK, (*observed, store))
    store.add_feeder(feeder)
    return strategy


class _Observer(ABC):
    """What both interfaces have in common: one parcel a call, and nothing that raises into training."""

    def __init__(self, feeder: Feeder) -> None:
        self.feeder = feeder
        self.sent: dict[int, dict[int, dict[str, Any]]] = {}
        self.names: dict[int, str] = {}
        self.recorded: int | None = None

    @abstractmethod
    def attach(self, strategy: Any) -> None:
        """Replace the bound methods of `strategy` that see what clients send."""

    @contextmanager
    def guarded(self, round: int) -> Iterator[None]:
        """Report what goes wrong in observing instead of raising it: the training matters more."""
        try:
            yield
        except Exception as error:
            self.feeder.failed(round, error)

    def keep_aggregate(self, round: int, tensors: Tensors, size_bytes: int) -> None:
        self.recorded = round
        self.feeder.submit(Parcel(round, size_bytes, aggregate=tensors))

    def before(self, round: int, tensors: Tensors, size_bytes: int) -> None:
        """The model that a round starts from is the aggregate of the round before, unless that was seen already."""
        if self.recorded != round - 1:
            self.keep_aggregate(round - 1, tensors, size_bytes)

    def add(self, parcel: Parcel, node: int, client: str | None, values: dict[str, Any]) -> str | None:
        """Enter one reply's metadata; returns its client id, or None when the round has a reply of that id already."""
        client = self.names.get(node, str(node)) if client is None else client
        if client in parcel.metadata:
            warn(
                f"Round {parcel.round}: two replies have the client id {client!r}; the first is kept. Give each client "
                f"its own {CLIENT_KEY!r} in the ConfigRecord {CLIENT_RECORD!r}."
            )
            return None
        parcel.metadata[client] = {**self.sent.get(parcel.round, {}).get(node, {}), **values, "node_id": str(node)}
        return client


class _Messages(_Observer):
    """The message interface: ``flwr.serverapp.strategy``."""

    def __init__(self, feeder: Feeder) -> None:
        super().__init__(feeder)
        self.sent_at: dict[int, float] = {}

    def attach(self, strategy: Any) -> None:
        _replace(strategy, "configure_train", self.configure_train)
        _replace(strategy, "aggregate_train", self.aggregate_train)
        _replace(strategy, "aggregate_evaluate", self.aggregate_evaluate)

    def configure_train(
        self, inner: Callable[..., Any], server_round: int, arrays: Any, *rest: Any, **more: Any
    ) -> Any:
        with self.guarded(server_round):
            self.before(server_round, *_snapshot([("", arrays)]))
        messages = list(inner(server_round, arrays, *rest, **more))
        with self.guarded(server_round):
            self.sent[server_round] = {m.metadata.dst_node_id: _config(m) for m in messages}
            self.sent_at = {m.metadata.dst_node_id: m.metadata.created_at for m in messages}
        return messages

    def aggregate_train(self, inner: Callable[..., Any], server_round: int, replies: Iterable[Any]) -> Any:
        replies = list(replies)
        with self.guarded(server_round):
            self.feeder.submit(self.parcel(server_round, replies, prefix=""))
            self.sent.pop(server_round, None)
        arrays, metrics = inner(server_round, replies)
        with self.guarded(server_round):
            if arrays is not None:
                self.keep_aggregate(server_round, *_snapshot([("", arrays)]))
        return arrays, metrics

    def aggregate_evaluate(self, inner: Callable[..., Any], server_round: int, replies: Iterable[Any]) -> Any:
        replies = list(replies)
        with self.guarded(server_round):
            if replies:
                self.feeder.submit(self.parcel(server_round, replies, prefix="eval_"))
        return inner(server_round, replies)

    def parcel(self, round: int, replies: list[Any], prefix: str) -> Parcel:
        """The updates and metadata of a round's replies, in copies that the strategy cannot change."""
        parcel, updates, size_bytes = Parcel(round), {}, 0
        for reply in replies:
            node = reply.metadata.src_node_id
            if reply.has_error():
                self.add(parcel, node, None, {f"{prefix}error": reply.error.reason or f"code {reply.error.code}"})
                continue
            metrics = [(k, v) for record in reply.content.metric_records.values() for k, v in record.items()]
            client = _stated_id(reply)
            if client is not None:
                self.names[node] = client
            values = {f"{prefix}{k}": v for k, v in metrics if isinstance(v, _SCALARS)}
            if not prefix and node in self.sent_at:
                values["reply_s"] = reply.metadata.created_at - self.sent_at[node]
            client = self.add(parcel, node, client, values)
            if client is not None and not prefix and reply.content.array_records:
                updates[client], more = _snapshot(list(reply.content.array_records.items()))
                size_bytes += more
        return Parcel(round, size_bytes, updates, metadata=parcel.metadata)


class _Legacy(_Observer):
    """The interface with parameters instead of messages: ``flwr.server.strategy``."""

    def attach(self, strategy: Any) -> None:
        _replace(strategy, "configure_fit", self.configure_fit)
        _replace(strategy, "aggregate_fit", self.aggregate_fit)
        _replace(strategy, "aggregate_evaluate", self.aggregate_evaluate)

    def configure_fit(
        self, inner: Callable[..., Any], server_round: int, parameters: Any, *rest: Any, **more: Any
    ) -> Any:
        with self.guarded(server_round):
            self.before(server_round, *_parameters(parameters))
        sent = inner(server_round, parameters, *rest, **more)
        with self.guarded(server_round):
            self.sent[server_round] = {_node(proxy): _scalars(ins.config) for proxy, ins in sent}
        return sent

    def aggregate_fit(self, inner: Callable[..., Any], server_round: int, results: Any, failures: Any) -> Any:
        with self.guarded(server_round):
            parcel, updates, size_bytes = Parcel(server_round), {}, 0
            for proxy, answer in results:
                values = {**_scalars(answer.metrics), "num-examples": answer.num_examples}
                client = self.add(parcel, _node(proxy), None, values)
                if client is not None and answer.parameters.tensors:
                    updates[client], more = _parameters(answer.parameters)
                    size_bytes += more
            for proxy, answer in (f for f in failures if isinstance(f, tuple)):
                self.add(parcel, _node(proxy), None, {"error": answer.status.message or str(answer.status.code)})
            self.feeder.submit(Parcel(server_round, size_bytes, updates, metadata=parcel.metadata))
            self.sent.pop(server_round, None)
        parameters, metrics = inner(server_round, results, failures)
        with self.guarded(server_round):
            if parameters is not None:
                self.keep_aggregate(server_round, *_parameters(parameters))
        return parameters, metrics

    def aggregate_evaluate(self, inner: Callable[..., Any], server_round: int, results: Any, failures: Any) -> Any:
        with self.guarded(server_round):
            parcel = Parcel(server_round)
            for proxy, answer in results:
                values = {**_scalars(answer.metrics), "loss": answer.loss, "num-examples": answer.num_examples}
                self.add(parcel, _node(proxy), None, {f"eval_{k}": v for k, v in values.items()})
            if parcel.metadata:
                self.feeder.submit(parcel)
        return inner(server_round, results, failures)


def _replace(strategy: Any, name: str, hook: Callable[..., Any]) -> None:
    inner = getattr(strategy, name, None)
    if inner is None:
        return

    @functools.wraps(inner)
    def method(*args: Any, **kwargs: Any) -> Any:
        return hook(inner, *args, **kwargs)

    setattr(strategy, name, method)


def _snapshot(records: list[tuple[str, Any]]) -> tuple[Tensors, int]:
    """The arrays of some records as they are now; names carry the record's where there are several records."""
    copies = [(f"{name}/" if len(records) > 1 else "", dict(record)) for name, record in records]
    size_bytes = sum(len(array.data) for _, arrays in copies for array in arrays.values())

    def decode() -> dict[str, NDArray[Any]]:
        return {prefix + k: _decode(k, array) for prefix, arrays in copies for k, array in arrays.items()}

    return decode, size_bytes


def _decode(name: str, array: Any) -> NDArray[Any]:
    if array.stype != "numpy.ndarray":
        raise InvalidUpdateError(f"tensor {name!r} is serialised as {array.stype!r}; only 'numpy.ndarray' can be read")
    return decode_npy(array.data, array.dtype)


def _parameters(parameters: Any) -> tuple[Tensors, int]:
    """The older interface has no names: tensors are called by their position."""
    tensors = list(parameters.tensors)
    return lambda: {f"{i:04d}": decode_npy(data) for i, data in enumerate(tensors)}, sum(map(len, tensors))


def _config(message: Any) -> dict[str, Any]:
    values = {k: v for record in message.content.config_records.values() for k, v in _scalars(record).items()}
    values.pop("server-round", None)  # Flower's own; metadata is kept by round as it is
    return values


def _scalars(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if isinstance(v, _SCALARS)}


def _stated_id(reply: Any) -> str | None:
    stated = reply.content.config_records.get(CLIENT_RECORD, {}).get(CLIENT_KEY)
    return None if stated is None else str(stated)


def _node(proxy: Any) -> Any:
    """Legacy proxies have a node id only where the transport has one; ``cid`` is always there."""
    return getattr(proxy, "node_id", None) or proxy.cid
