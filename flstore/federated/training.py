"""The loops of a client: train on some images, or count how many are right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flstore.federated.settings import Settings
from flstore.workloads._stages import available_cores

if TYPE_CHECKING:
    import torch

_AT_ONCE = 512
"""Images that are evaluated together."""


def train(
    network: torch.nn.Module,
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    config: Mapping[str, Any],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Train in place, as a configuration says.

    Parameters
    ----------
    network : torch.nn.Module
        Left in training mode, with the new weights.
    images, labels : ndarray
        All that there is to train on.
    config : mapping
        As ``Settings.config()`` makes it, of which what is missing has the value of ``Settings()``; optional
        ``max-batches``.
    rng : numpy.random.Generator
        Of the batches and of layers that draw random numbers.

    Returns
    -------
    dict
        train_loss and train_accuracy (means over the images of all batches, as they were when trained on; NaN without
        any) and batches.
    """
    import torch
    from torch.nn.functional import cross_entropy

    config = {**Settings().config(), **config}
    optimizer, most = _optimizer(network, config), config.get("clip-norm", math.inf)
    network.train()
    losses, right, seen = 0.0, 0, 0
    chosen = batches(len(labels), config, rng)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(1 << 62)))
        for batch in chosen:
            truth = torch.from_numpy(labels[batch])
            optimizer.zero_grad()
            answers = network(torch.from_numpy(images[batch]))
            loss = cross_entropy(answers, truth)
            loss.backward()  # type: ignore[no-untyped-call]
            if most < math.inf:
                torch.nn.utils.clip_grad_norm_(network.parameters(), most)
            optimizer.step()
            losses += float(loss.detach()) * len(batch)
            right += int((answers.detach().argmax(1) == truth).sum())
            seen += len(batch)
    means = {"train_loss": losses / seen, "train_accuracy": right / seen} if seen else _NOTHING
    return {**means, "batches": len(chosen)}


_NOTHING = {"train_loss": math.nan, "train_accuracy": math.nan}


def score(network: torch.nn.Module, images: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """The share of images that a network gets right, and its mean cross entropy on them."""
    import torch
    from torch.nn.functional import cross_entropy

    network.eval()
    right, loss = 0, 0.0
    with torch.inference_mode():
        for start in range(0, len(labels), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            answers, truth = network(torch.from_numpy(np.array(images[some]))), torch.from_numpy(np.array(labels[some]))
            right += int((answers.argmax(1) == truth).sum())
            loss += float(cross_entropy(answers, truth, reduction="sum"))
    return right / len(labels), loss / len(labels)


def batches(count: int, config: Mapping[str, Any], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Batches of about the configured size, even ones: a rest of two or three images ruins batch normalisation."""
    chosen: list[NDArray[np.int64]] = []
    for _ in range(config["epochs"]):
        chosen += np.array_split(rng.permutation(count), max(1, round(count / config["batch-size"])))
    return chosen[: config.get("max-batches")]


def _optimizer(network: torch.nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    import torch

    weights, lr, decay = network.parameters(), config["lr"], config["weight-decay"]
    if config["optimizer"] == "adamw":
        # Fused: a fifth of the time, which counts for batches of four images and 28 million weights.
        return torch.optim.AdamW(weights, lr=lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(weights, lr=lr, momentum=config["momentum"], weight_decay=decay)


def resources() -> dict[str, int]:
    """What the client's machine has for it: cores that this process may use, and bytes of memory."""
    import psutil

    return {"cores": available_cores(), "memory_bytes": int(psutil.virtual_memory().total)}
