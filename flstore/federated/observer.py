"""What observing has in common in both of Flower's interfaces: one parcel a call, nothing that raises into training."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flstore.errors import InvalidUpdateError
from flstore.federated.feeder import Feeder, Parcel, Tensors, warn
from flstore.federated.identity import Clients
from flstore.federated.replies import NO_ANSWER, Reply
from flstore.observed import HIDDEN, NODE_ID

MOST_OPEN = 8
"""Rounds whose requests are remembered until they are answered; a strategy may never ask for the answers."""

TRAIN, EVALUATE = "", "eval_"
"""The phases of a round, as the prefix of what is recorded of them."""


@dataclass(slots=True)
class Asked:
    """What a phase of a round sent: the configuration by node, and the time of it by this machine's clock."""

    configs: dict[str, dict[str, Any]]
    sent_at: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)


class Observer(ABC):
    """Turns a strategy's calls into parcels.

    Parameters
    ----------
    feeder : Feeder
        Takes the parcels to the store.
    clients : Clients
        Knows who answers.
    """

    def __init__(self, feeder: Feeder, clients: Clients) -> None:
        self.feeder = feeder
        self.clients = clients
        self.asked: dict[tuple[str, int], Asked] = {}
        self.recorded: int | None = None
        self.calls = 0
        self._told_hidden = False

    @abstractmethod
    def methods(self) -> dict[str, Callable[..., Any]]:
        """What listens to which of the strategy's methods."""

    @contextmanager
    def guarded(self, round: int) -> Iterator[None]:
        """Report what goes wrong in observing instead of raising it: the training matters more."""
        self.calls += 1
        try:
            yield
        except Exception as error:
            self.feeder.failed(round, error)

    def before(self, round: int, model: tuple[Tensors, int]) -> None:
        """The model that a round starts from is the aggregate of the round before, unless that was seen already."""
        if self.recorded != round - 1:
            self.keep_aggregate(round - 1, model)

    def keep_aggregate(self, round: int, model: tuple[Tensors, int]) -> None:
        """Hand over the global model after a round."""
        self.recorded = round
        self.feeder.submit(Parcel(round, model[1], aggregate=model[0]))

    def ask(self, phase: str, round: int, asked: Asked) -> None:
        """Remember what was sent until it is answered."""
        self.asked[phase, round] = asked
        while len(self.asked) > MOST_OPEN:
            del self.asked[next(iter(self.asked))]

    def take(self, phase: str, round: int, replies: list[Reply], hidden: bool = False) -> None:
        """Hand over the answers of a phase; `hidden` when no model among them is a client's own."""
        asked = self.asked.pop((phase, round), Asked({}))
        answered = {reply.node for reply in replies}
        replies = replies + [Reply(node, error=NO_ANSWER) for node in asked.configs if node not in answered]
        if hidden:
            self._tell_hidden(round)
        parcel, took_s = Parcel(round), time.perf_counter() - asked.began
        # Answers first: a client that was asked in two of its lives has answered when one of them did.
        ordered = sorted(zip(replies, self.clients.name(round, replies), strict=True), key=lambda r: bool(r[0].error))
        for reply, client in ordered:
            if reply.error:
                row = self._failed(parcel.metadata, reply, client, phase)
            elif client in parcel.metadata:
                text = f"node {reply.node} answered twice in round {round}; its first answer is kept"
                self.feeder.failed(round, InvalidUpdateError(text), client)
                continue
            else:
                values = {**reply.values, **({"round_s": took_s} if asked.configs else {})}
                row = {**{f"{phase}{k}": v for k, v in values.items()}, NODE_ID: reply.node}
                if phase == TRAIN:
                    row["reply_bytes"] = reply.size_bytes
                    row |= {HIDDEN: True} if hidden else {}
                    if reply.tensors is not None and not hidden:
                        parcel.updates[client] = reply.tensors
            config = {f"{phase}{k}": v for k, v in asked.configs.get(reply.node, {}).items()}
            parcel.metadata[client] = {**config, **row}
        size_bytes = sum(reply.size_bytes for reply in replies) if parcel.updates else 0
        self.feeder.submit(Parcel(round, size_bytes, parcel.updates, metadata=parcel.metadata))

    @staticmethod
    def _failed(rows: Mapping[str, dict[str, Any]], reply: Reply, client: str, phase: str) -> dict[str, Any]:
        if client in rows:
            return {**rows[client], f"{phase}error": f"as node {reply.node}: {reply.error}"}
        return {f"{phase}error": reply.error, NODE_ID: reply.node}

    def _tell_hidden(self, round: int) -> None:
        if not self._told_hidden:
            self._told_hidden = True
            warn(
                f"Round {round}: no reply holds a model of the client's own, as under secure aggregation. Aggregates "
                f"and metadata are recorded; requests about single clients' updates will fail and say why. This is "
                f"said once."
            )
