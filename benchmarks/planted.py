"""Rounds of a real Flower app in which one client is faulty."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from benchmarks.digits_net import build
from flstore.federated.client import load_record
from flstore.federated.data import digits
from flstore.federated.faults import DEFAULT_STRENGTH, Fault
from flstore.federated.grid import LocalGrid
from flstore.federated.models import state_arrays
from flstore.federated.npy import decode_npy
from flstore.federated.scopes import one_thread, quiet

KINDS = {"sign-flipped": "sign-flip", "noisy": "noise", "scaled": "scaled", "label-flipped": "label-flip"}
"""What each is called in ``flstore.federated.Fault``."""
FAULTS = ("none", *KINDS)
SCALE = DEFAULT_STRENGTH["scaled"]
"""What a scaled delta is multiplied by."""
NOISE = DEFAULT_STRENGTH["noise"]
"""Norm of the noise on a noisy delta, in units of the norm of the delta, tensor by tensor."""
BATCH_SIZE, EPOCHS, LEARNING_RATE = 16, 2, 0.1

Tensors = Mapping[str, NDArray[Any]]


class Run:
    """A federated training that can be asked for one more round, with a fault or without.

    Parameters
    ----------
    seed : int
        Of the split over clients, the weights, the batches and the noise.
    clients : int
        All take part in every round.
    alpha : float
        Dirichlet concentration of the split.
    warm_up : int
        Rounds before anything is planted.
    """

    def __init__(self, seed: int, clients: int, alpha: float, warm_up: int) -> None:
        import torch

        self.seed, self.clients, self.alpha = seed, clients, alpha
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._model = build()
        self.arrays: Tensors = state_arrays(self._model)
        self.arrays = self._train(warm_up, "none", -1)[1]

    def round(self, fault: str, faulty: int) -> dict[str, Tensors]:
        """What the clients reply in the next round, if this one is faulty; by client id."""
        return self._train(1, fault, faulty)[0]

    def _train(self, rounds: int, fault: str, faulty: int) -> tuple[dict[str, Tensors], Tensors]:
        config = {"seed": self.seed, "alpha": self.alpha, "fault": fault, "faulty": faulty}
        with ExitStack() as stack:
            for scope in (quiet(logging.ERROR), one_thread()):
                stack.enter_context(scope)
            strategy = _Recording(fraction_evaluate=0.0, min_available_nodes=self.clients)
            grid: Grid = stack.enter_context(LocalGrid(client_app(), self.clients))
            result = strategy.start(grid, _record(self.arrays), rounds, train_config=ConfigRecord(config))
        return strategy.last, _arrays(result.arrays)


class _Recording(FedAvg):
    """FedAvg that keeps the replies of the last round."""

    last: dict[str, Tensors]

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        replies = list(replies)
        self.last = {}
        for reply in replies:
            if reply.has_error():
                raise RuntimeError(f"a client failed: {reply.error.reason}")
            self.last[f"{int(reply.content['metrics']['partition']):02}"] = _arrays(reply.content["arrays"])
        return super().aggregate_train(server_round, replies)


def client_app() -> ClientApp:
    """Trains on its own digits; the client that the configuration names does its work wrong."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        config = {k: v for record in message.content.config_records.values() for k, v in record.items()}
        who, many = int(context.node_config["partition-id"]), int(context.node_config["num-partitions"])
        planted = config["fault"] if who == config["faulty"] else "none"
        fault = Fault.of(KINDS[str(planted)]) if planted != "none" else None
        random = np.random.default_rng([int(config["seed"]), int(config["server-round"]), who])
        model, sent = build(), next(iter(message.content.array_records.values()))
        load_record(model, sent)
        data = digits(many, float(config["alpha"]), int(config["seed"]))
        mine = data.partitions[who]
        labels = data.train_labels[mine]
        if fault:
            labels = fault.labels(labels, len(data.classes), random)
        _sgd(model, data.train_images[mine], labels, random)
        arrays = state_arrays(model)
        if fault:
            arrays = fault.spoil(_arrays(sent), arrays, random)
        content = RecordDict({"arrays": _record(arrays)})
        content["metrics"] = MetricRecord({"num-examples": len(mine), "partition": who})
        return Message(content, reply_to=message)

    return app


def _sgd(model: Any, images: NDArray[Any], labels: NDArray[Any], random: np.random.Generator) -> None:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    model.train()
    for _ in range(EPOCHS):
        for batch in np.array_split(random.permutation(len(labels)), max(1, round(len(labels) / BATCH_SIZE))):
            optimizer.zero_grad()
            outputs = model(torch.from_numpy(images[batch]))
            torch.nn.functional.cross_entropy(outputs, torch.from_numpy(labels[batch])).backward()
            optimizer.step()


def _arrays(record: ArrayRecord) -> dict[str, NDArray[Any]]:
    return {name: np.array(decode_npy(array.data, array.dtype)) for name, array in record.items()}


def _record(arrays: Tensors) -> ArrayRecord:
    return ArrayRecord({name: Array(np.ascontiguousarray(array)) for name, array in arrays.items()})
