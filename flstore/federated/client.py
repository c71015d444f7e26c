"""The client side of the small Flower app: train on one's own digits, or evaluate on them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from flstore.federated.data import CLASSES, digits
from flstore.federated.flower import CLIENT_KEY, CLIENT_RECORD
from flstore.federated.models import build, load_arrays
from flstore.federated.npy import decode_npy

if TYPE_CHECKING:
    import torch


def client_app() -> ClientApp:
    """Build the client app.

    It reads from the configuration that the server sends ``model``, ``lr``, ``batch-size``, ``epochs``,
    ``max-batches`` (optional), ``seed``, ``alpha`` and Flower's ``server-round``; from its node's configuration
    ``partition-id`` and ``num-partitions``. It replies its model, ``train_loss`` or ``loss`` and ``accuracy``,
    ``num-examples``, ``duration_s``, and the partition id as its client id.

    Equal (seed, round, partition) train on equal batches. Layers that draw random numbers themselves (dropout) repeat
    too as long as one client trains at a time.
    """
    app = ClientApp()
    networks = threading.local()  # one network a thread: it is overwritten by what the server sends

    @app.train()
    def train(message: Message, context: Context) -> Message:
        started = time.perf_counter()
        config, network, own = _receive(message, context, networks)
        loss = _train(network, own, config, _rng(config, context))
        metrics = {"train_loss": loss, "num-examples": len(own[1]), "duration_s": time.perf_counter() - started}
        return _reply(message, context, metrics, ArrayRecord(network.state_dict()))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        started = time.perf_counter()
        _, network, own = _receive(message, context, networks)
        accuracy, loss = score(network, *own)
        metrics = {"accuracy": accuracy, "loss": loss, "num-examples": len(own[1])}
        return _reply(message, context, {**metrics, "duration_s": time.perf_counter() - started})

    return app


def score(network: torch.nn.Module, images: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """The share of images that a network gets right, and its mean cross entropy on them."""
    import torch
    from torch.nn.functional import cross_entropy

    network.eval()
    with torch.inference_mode():
        answers = network(torch.from_numpy(np.array(images)))
        truth = torch.from_numpy(np.array(labels))
        return float((answers.argmax(1) == truth).double().mean()), float(cross_entropy(answers, truth))


def load_record(network: torch.nn.Module, record: ArrayRecord) -> None:
    """Copy the arrays of a record into a network."""
    load_arrays(network, {name: decode_npy(array.data, array.dtype) for name, array in record.items()})


def _receive(message: Message, context: Context, networks: Any) -> tuple[dict[str, Any], torch.nn.Module, Any]:
    config: dict[str, Any] = {k: v for record in message.content.config_records.values() for k, v in record.items()}
    if getattr(networks, "name", None) != config["model"]:
        networks.model, networks.name = build(config["model"], num_classes=CLASSES), config["model"]
    load_record(networks.model, next(iter(message.content.array_records.values())))
    data = digits(int(context.node_config["num-partitions"]), config["alpha"], config["seed"])
    mine = data.partitions[int(context.node_config["partition-id"])]
    return config, networks.model, (data.train_images[mine], data.train_labels[mine])


def _train(network: torch.nn.Module, own: Any, config: dict[str, Any], rng: np.random.Generator) -> float:
    """Plain SGD; returns the mean loss over the batches."""
    import torch
    from torch.nn.functional import cross_entropy

    images, labels = own
    optimizer = torch.optim.SGD(network.parameters(), lr=config["lr"])
    network.train()
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(1 << 62)))
        for batch in _batches(len(labels), config, rng):
            optimizer.zero_grad()
            loss = cross_entropy(network(torch.from_numpy(images[batch])), torch.from_numpy(labels[batch]))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(float(loss.detach()))
    return float(np.mean(losses)) if losses else float("nan")


def _batches(count: int, config: dict[str, Any], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Batches of about the configured size, even ones: a rest of two or three images ruins batch normalisation."""
    batches: list[NDArray[np.int64]] = []
    for _ in range(config["epochs"]):
        batches += np.array_split(rng.permutation(count), max(1, round(count / config["batch-size"])))
    return batches[: config.get("max-batches")]


def _rng(config: dict[str, Any], context: Context) -> np.random.Generator:
    who = int(context.node_config["partition-id"])
    return np.random.default_rng([config["seed"], config.get("server-round", 0), who])


def _reply(message: Message, context: Context, metrics: dict[str, Any], arrays: ArrayRecord | None = None) -> Message:
    content = RecordDict({"metrics": MetricRecord(metrics)})
    content[CLIENT_RECORD] = ConfigRecord({CLIENT_KEY: str(context.node_config["partition-id"])})
    if arrays is not None:
        content["arrays"] = arrays
    return Message(content, reply_to=message)
