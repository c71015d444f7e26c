"""Observe any Flower strategy: what its clients send goes to a store, and the strategy notices nothing.

Both of Flower's interfaces are understood: messages (``configure_train``, ``aggregate_train``) and the older one
(``configure_fit``, ``aggregate_fit``). Nothing here imports Flower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from flstore.errors import InvalidParameterError
from flstore.federated import hooks
from flstore.federated.feeder import Feeder, Ingests, warn
from flstore.federated.identity import CLIENT_KEY, CLIENT_METRIC, CLIENT_RECORD, Clients, stated_id
from flstore.federated.observer import EVALUATE, TRAIN, Asked, Observer
from flstore.federated.replies import Reply, reason
from flstore.federated.snapshot import of_parameters, of_records, scalars

__all__ = ["CLIENT_KEY", "CLIENT_RECORD", "observe"]

_SECAGG_RECORD = "secaggplus_configs"
"""Where the clients of Flower's SecAgg+ put what they send to its workflow."""

_S = TypeVar("_S")


def observe(store: Ingests, strategy: _S, *, buffer_bytes: int = 1 << 30) -> _S:
    """Record every round of a Flower strategy in a store; returns the same strategy.

    What clients send, the global model after each round (and the one that training starts from, as that of the round
    before the first), and as metadata of each client that was asked: its metrics, the scalars of the configuration that
    it was sent, ``node_id``, ``reply_bytes`` (its model as sent), ``round_s`` (seconds from asking the first client to
    having the answers), ``reply_s`` (messages only: seconds from making the message to making its reply, by the clocks
    of both machines) and ``error`` (what it failed with, or "no answer"). What an evaluation brings has the prefix
    ``eval_``.

    A client is known by the id that its reply states (:func:`flstore.federated.identify`, one line on the client); else
    by the one that its node stated before, in this process or an earlier one on the same root; else by its node id,
    which is another one each time that a client restarts.

    Parameters
    ----------
    store : Ingests
        An open store, such as ``FLStore``. Flushing and closing it includes what was observed.
    strategy : flwr.serverapp.strategy.Strategy or flwr.server.strategy.Strategy
        Bound methods of this instance are replaced; its class and attributes are not. Observing it again for the same
        store does nothing. It may be running: what was sent before is then not known. A pickle or deep copy of it is a
        strategy that is not observed.
    buffer_bytes : int
        Bytes of updates that may wait to be ingested before training waits for the store.

    Raises
    ------
    InvalidParameterError
        `strategy` has neither interface, or `buffer_bytes` is below one.

    Notes
    -----
    The training thread only copies dictionaries: arrays of Flower hold immutable bytes. They are decoded, encoded and
    written by another thread. A store that fails does not stop training: it is reported by a warning once a round,
    raised by ``store.flush()``, and ``store.not_stored`` lists what is missing. What the store did not take is held
    within `buffer_bytes` and handed over when it works again; the oldest is let go of when there is no room.

    Dtypes are kept, bfloat16 and int8 too. A torch bfloat16 tensor cannot enter a Flower message at all; send its bits
    as an ``Array`` of ``ml_dtypes.bfloat16``. A round holds one architecture: what differs in names, dtypes or shapes
    from what most of its clients sent is not stored, which concerns trees (``FedXgb...``) of unequal length too.

    Differential privacy: ``observe(store, DP(FedAvg()))`` records what clients sent and the model after noise,
    ``DP(observe(store, FedAvg()))`` what is left of an update after clipping on the server, and the model before noise.
    With clipping on the clients both see clipped updates, as nothing else is sent.

    Secure aggregation: when no reply holds a model of the client's own, aggregates and metadata are recorded, a warning
    says so once, and requests about a client's update fail and say why, in later processes too. Seen are Flower's
    SecAgg+ workflow and replies without arrays; masked arrays that look like a model cannot be told from one.

    Examples
    --------
    >>> from flwr.serverapp.strategy import FedAvg
    >>> strategy = observe(store, FedAvg())
    """
    if hooks.is_observed(strategy, store):
        return strategy
    if hasattr(strategy, "aggregate_train"):
        watch: type[Observer] = _Messages
    elif hasattr(strategy, "aggregate_fit"):
        watch = _Legacy
    else:
        raise InvalidParameterError(
            f"{type(strategy).__name__} is no Flower strategy: it has neither aggregate_train nor aggregate_fit. "
            "Give observe() an instance of one, such as FedAvg()."
        )
    feeder = Feeder(store, buffer_bytes)
    hooks.attach(strategy, store, watch(feeder, Clients(store)).methods())
    store.add_feeder(feeder)
    return strategy


class _Messages(Observer):
    """The message interface: ``flwr.serverapp.strategy``."""

    def methods(self) -> dict[str, Callable[..., Any]]:
        names = ("start", "configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate")
        return {name: getattr(self, name) for name in names}

    def start(self, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        calls = self.calls
        result = inner(*args, **kwargs)
        if self.calls == calls:
            warn(
                "Nothing was recorded: the strategy's start() called neither its configure_train nor its "
                "aggregate_train. Observe the strategy that it uses inside, or ingest by hand: store.ingest(...)."
            )
        return result

    def configure_train(
        self, inner: Callable[..., Any], server_round: int, arrays: Any, *rest: Any, **more: Any
    ) -> Any:
        with self.guarded(server_round):
            self.before(server_round, of_records({"": arrays}))
        return self.sending(TRAIN, server_round, inner(server_round, arrays, *rest, **more))

    def configure_evaluate(
        self, inner: Callable[..., Any], server_round: int, arrays: Any, *rest: Any, **more: Any
    ) -> Any:
        return self.sending(EVALUATE, server_round, inner(server_round, arrays, *rest, **more))

    def sending(self, phase: str, round: int, messages: Iterable[Any]) -> Any:
        messages = messages if isinstance(messages, list) else list(messages)
        with self.guarded(round):
            nodes = {str(m.metadata.dst_node_id): m for m in messages}
            configs = {node: _config(m) for node, m in nodes.items()}
            self.ask(phase, round, Asked(configs, {node: m.metadata.created_at for node, m in nodes.items()}))
        return messages

    def aggregate_train(self, inner: Callable[..., Any], server_round: int, replies: Iterable[Any]) -> Any:
        replies = list(replies)
        with self.guarded(server_round):
            asked = self.asked.get((TRAIN, server_round))
            found = [_reply(reply, asked) for reply in replies]
            self.take(TRAIN, server_round, found, _is_hidden(replies, found))
        arrays, metrics = inner(server_round, replies)
        with self.guarded(server_round):
            if arrays is not None:
                self.keep_aggregate(server_round, of_records({"": arrays}))
        return arrays, metrics

    def aggregate_evaluate(self, inner: Callable[..., Any], server_round: int, replies: Iterable[Any]) -> Any:
        replies = list(replies)
        with self.guarded(server_round):
            asked = self.asked.get((EVALUATE, server_round))
            self.take(EVALUATE, server_round, [_reply(reply, asked) for reply in replies])
        return inner(server_round, replies)


def _reply(message: Any, asked: Asked | None) -> Reply:
    """A reply's contents, in copies that the strategy cannot change."""
    node = str(message.metadata.src_node_id)
    if message.has_error():
        return Reply(node, error=reason(message.error.reason or f"code {message.error.code}"))
    content = message.content
    values = {k: v for record in content.metric_records.values() for k, v in scalars(record).items()}
    if asked is not None and node in asked.sent_at:
        values["reply_s"] = message.metadata.created_at - asked.sent_at[node]
    tensors, size_bytes = of_records(content.array_records)
    has_arrays = any(content.array_records.values())
    return Reply(node, stated_id(content), values, tensors=tensors if has_arrays else None, size_bytes=size_bytes)


def _is_hidden(messages: list[Any], replies: list[Reply]) -> bool:
    answers = [(m, r) for m, r in zip(messages, replies, strict=True) if not r.error]
    masked = any(_SECAGG_RECORD in message.content.config_records for message, _ in answers)
    return masked or (bool(answers) and all(reply.tensors is None for _, reply in answers))


def _config(message: Any) -> dict[str, Any]:
    values = {k: v for record in message.content.config_records.values() for k, v in scalars(record).items()}
    values.pop("server-round", None)  # Flower's own; metadata is kept by round as it is
    return values


class _Legacy(Observer):
    """The interface with parameters instead of messages: ``flwr.server.strategy``."""

    def methods(self) -> dict[str, Callable[..., Any]]:
        names = ("configure_fit", "aggregate_fit", "configure_evaluate", "aggregate_evaluate")
        return {name: getattr(self, name) for name in names}

    def configure_fit(
        self, inner: Callable[..., Any], server_round: int, parameters: Any, *rest: Any, **more: Any
    ) -> Any:
        with self.guarded(server_round):
            self.before(server_round, of_parameters(parameters))
        return self.sending(TRAIN, server_round, inner(server_round, parameters, *rest, **more))

    def configure_evaluate(
        self, inner: Callable[..., Any], server_round: int, parameters: Any, *rest: Any, **more: Any
    ) -> Any:
        return self.sending(EVALUATE, server_round, inner(server_round, parameters, *rest, **more))

    def sending(self, phase: str, round: int, sent: Any) -> Any:
        with self.guarded(round):
            self.ask(phase, round, Asked({_node(proxy): scalars(ins.config) for proxy, ins in sent}))
        return sent

    def aggregate_fit(self, inner: Callable[..., Any], server_round: int, results: Any, failures: Any) -> Any:
        with self.guarded(server_round):
            self.take(TRAIN, server_round, *self.fitted(server_round, results, failures))
        parameters, metrics = inner(server_round, results, failures)
        with self.guarded(server_round):
            if parameters is not None:
                self.keep_aggregate(server_round, of_parameters(parameters))
        return parameters, metrics

    def fitted(self, round: int, results: Any, failures: Any) -> tuple[list[Reply], bool]:
        """The answers, and whether all of them hold the aggregate instead of a model of their own."""
        replies = []
        for proxy, answer in results:
            reply = _answer(proxy, answer, {"num-examples": answer.num_examples})
            with self.guarded(round):
                reply.tensors, reply.size_bytes = of_parameters(answer.parameters)
            if not reply.size_bytes:
                reply.tensors = None
            replies.append(reply)
        # SecAgg+ puts one and the same object into all results: what it unmasked, the aggregate.
        same = len(results) > 1 and len({id(answer.parameters) for _, answer in results}) == 1
        hidden = bool(replies) and (same or all(reply.tensors is None for reply in replies))
        return replies + self.unanswered(TRAIN, round, replies, failures), hidden

    def aggregate_evaluate(self, inner: Callable[..., Any], server_round: int, results: Any, failures: Any) -> Any:
        with self.guarded(server_round):
            replies = [_answer(p, a, {"loss": a.loss, "num-examples": a.num_examples}) for p, a in results]
            self.take(EVALUATE, server_round, replies + self.unanswered(EVALUATE, server_round, replies, failures))
        return inner(server_round, results, failures)

    def unanswered(self, phase: str, round: int, replies: list[Reply], failures: Any) -> list[Reply]:
        """Failures by client; an exception says not whose it is, so all who are missing get the texts of all."""
        named = [f for f in failures if isinstance(f, tuple)]
        found = [Reply(_node(p), error=reason(a.status.message or str(a.status.code))) for p, a in named]
        texts = [reason(_told(f)) for f in failures if not isinstance(f, tuple)]
        asked = self.asked.get((phase, round))
        if texts and asked is not None:
            missing = [node for node in asked.configs if node not in {r.node for r in (*replies, *found)}]
            one = len(missing) == len(texts) == 1
            text = texts[0] if one else f"no answer; failures of the round: {'; '.join(dict.fromkeys(texts))}"
            found += [Reply(node, error=text) for node in missing]
        return found


def _answer(proxy: Any, answer: Any, values: Mapping[str, Any]) -> Reply:
    metrics = scalars(answer.metrics or {})
    stated = metrics.pop(CLIENT_METRIC, None)
    return Reply(_node(proxy), stated, {**metrics, **values})


def _told(failure: BaseException) -> str:
    # Flower wraps the error of a message, as it came from the client, in a bare Exception.
    told = getattr(failure.args[0] if failure.args else None, "reason", None)
    return str(told) if told else f"{type(failure).__name__}: {failure}"


def _node(proxy: Any) -> str:
    """Legacy proxies have a node id only where the transport has one; ``cid`` is always there."""
    return str(getattr(proxy, "node_id", None) or proxy.cid)
