"""The client side of the small Flower app: train on one's own images, or evaluate on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from flstore.federated.data import Images, images
from flstore.federated.faults import Fault
from flstore.federated.flower import CLIENT_KEY, CLIENT_RECORD
from flstore.federated.models import build, load_arrays, state_arrays
from flstore.federated.npy import decode_npy
from flstore.federated.training import resources, score, train

if TYPE_CHECKING:
    import torch


class _Networks(threading.local):
    """One network a thread: it is overwritten by what the server sends. Empty where it is unpickled."""

    name: tuple[str, int] | None = None
    model: torch.nn.Module

    def __reduce__(self) -> tuple[type[_Networks], tuple[()]]:
        return _Networks, ()


def client_app(faults: Mapping[str, str | Fault] | None = None) -> ClientApp:
    """Build the client app.

    It reads from the configuration that the server sends ``model``, what ``Settings.config()`` gives, ``data``,
    ``data-root``, ``split``, ``alpha``, ``shards``, ``seed``, ``max-batches`` (optional) and Flower's
    ``server-round``; what is missing has the value that ``run`` would take. From its node's configuration it reads
    ``partition-id`` and ``num-partitions``.

    It replies its model, the partition id as its client id, and as metrics ``train_loss`` and ``train_accuracy`` (means
    over the images as they were trained on) or ``loss`` and ``accuracy``, ``num-examples``, ``duration_s`` (its own
    clock, from the message to the reply), ``batches``, ``download_bytes`` and ``upload_bytes`` (of the tensors),
    ``cores`` and ``memory_bytes`` (of its machine, as far as this process may use them). Whether and when it was
    available it cannot know; that is in who answered.

    Equal (seed, round, partition) train on equal batches. Layers that draw random numbers themselves (dropout) repeat
    too as long as one client trains at a time.

    Parameters
    ----------
    faults : mapping of str to str or Fault, optional
        Clients that do their work wrong, by partition id: ``{"3": "label-flip", "7": "scaled:5"}``. The clients
        themselves know it alone: the server sends nothing of it, and no reply tells.
    """
    app = ClientApp()
    networks = _Networks()
    wrong = {str(client): Fault.of(fault) for client, fault in (faults or {}).items()}

    @app.train()
    def on_train(message: Message, context: Context) -> Message:
        started = time.perf_counter()
        config, network, data, mine = _receive(message, context, networks)
        rng, labels = _rng(config, context), data.train_labels[mine]
        fault = wrong.get(str(context.node_config["partition-id"]))
        if fault:
            labels = fault.labels(labels, len(data.classes), rng)
        metrics = train(network, data.train_images[mine], labels, config, rng)
        arrays = _sent(fault, message, network, rng)
        return _reply(message, context, {**metrics, "num-examples": len(mine)}, started, arrays)

    @app.evaluate()
    def on_evaluate(message: Message, context: Context) -> Message:
        started = time.perf_counter()
        _, network, data, mine = _receive(message, context, networks)
        accuracy, loss = score(network, data.train_images[mine], data.train_labels[mine])
        return _reply(message, context, {"accuracy": accuracy, "loss": loss, "num-examples": len(mine)}, started)

    return app


def load_record(network: torch.nn.Module, record: ArrayRecord) -> None:
    """Copy the arrays of a record into a network."""
    load_arrays(network, _decoded(record))


def data_of(config: Mapping[str, Any], clients: int, download: bool = False) -> Images:
    """The data set that a configuration names, split over so many clients."""
    return images(
        str(config.get("data", "digits")),
        clients,
        split=str(config.get("split", "dirichlet")),
        alpha=float(config.get("alpha", 1.0)),
        shards=int(config.get("shards", 2)),
        seed=int(config.get("seed", 0)),
        root=str(config.get("data-root", "")),
        download=download,
    )


def _receive(
    message: Message, context: Context, networks: _Networks
) -> tuple[dict[str, Any], torch.nn.Module, Images, NDArray[np.int64]]:
    """The configuration, the network with the weights that came, and the data with the rows that are this client's."""
    config: dict[str, Any] = {k: v for record in message.content.config_records.values() for k, v in record.items()}
    data = data_of(config, int(context.node_config["num-partitions"]))
    name = (str(config["model"]), len(data.classes))
    if networks.name != name:
        networks.model, networks.name = build(name[0], num_classes=name[1]), name
    load_record(networks.model, _weights(message))
    return config, networks.model, data, data.partitions[int(context.node_config["partition-id"])]


def _weights(message: Message) -> ArrayRecord:
    record: ArrayRecord = next(iter(message.content.array_records.values()))
    return record


def _decoded(record: ArrayRecord) -> dict[str, NDArray[Any]]:
    return {name: decode_npy(array.data, array.dtype) for name, array in record.items()}


def _sent(fault: Fault | None, message: Message, network: torch.nn.Module, rng: np.random.Generator) -> ArrayRecord:
    """What a client replies of what it trained; one that is late takes its time."""
    if fault is None:
        return ArrayRecord(network.state_dict())
    learned = [name for name, _ in network.named_parameters()]
    arrays = fault.spoil(_decoded(_weights(message)), state_arrays(network), rng, learned)
    time.sleep(fault.delay_s)
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def _rng(config: Mapping[str, Any], context: Context) -> np.random.Generator:
    who = int(context.node_config["partition-id"])
    return np.random.default_rng([config.get("seed", 0), config.get("server-round", 0), who])


def _reply(
    message: Message, context: Context, metrics: dict[str, Any], started: float, arrays: ArrayRecord | None = None
) -> Message:
    metrics["download_bytes"] = _size_bytes(_weights(message))
    metrics["upload_bytes"] = _size_bytes(arrays) if arrays else 0
    metrics |= {**resources(), "duration_s": time.perf_counter() - started}
    content = RecordDict({"metrics": MetricRecord(metrics)})
    content[CLIENT_RECORD] = ConfigRecord({CLIENT_KEY: str(context.node_config["partition-id"])})
    if arrays is not None:
        content["arrays"] = arrays
    return Message(content, reply_to=message)


def _size_bytes(record: ArrayRecord) -> int:
    return sum(len(array.data) for array in record.values())
