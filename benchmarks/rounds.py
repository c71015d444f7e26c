"""Rounds of client updates as a real model makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.codec import ClientUpdate, decode, encode
from flstore.types import Key, Kind
from flstore.workloads.base import Inputs, Scope

JOB = "benchmark"
CLIENTS = 10
Tensors = dict[str, NDArray[Any]]


def model(quick: bool = False) -> tuple[str, Tensors]:
    """Name and state of ResNet18 (44.8 MB), or of MobileNetV3-Small (6.2 MB) where only the harness is tried."""
    from flstore.federated.models import build, state_arrays

    name = "mobilenet_v3_small" if quick else "resnet18"
    return name, state_arrays(build(name))


def perturbed(state: Tensors, clients: int = CLIENTS, seed: int = 0) -> dict[str, Tensors]:
    """What `clients` would send: the state plus noise of their own on every floating-point tensor."""
    rng = np.random.default_rng(seed)

    def one() -> Tensors:
        return {
            name: array + np.float32(0.01) * rng.standard_normal(array.shape, np.float32)
            if array.dtype.kind == "f"
            else array
            for name, array in state.items()
        }

    return {f"client-{i}": one() for i in range(clients)}


def averaged(state: Tensors) -> Tensors:
    """The state as an aggregate that a strategy made: averages of counters are floats."""
    return {name: array if array.dtype.kind == "f" else array.astype(np.float64) for name, array in state.items()}


def encoded(updates: dict[str, Tensors], round: int = 1) -> dict[Key, ClientUpdate]:
    """The updates as a cache function holds them: encoded, decoded, aligned."""
    keys = {client: Key(JOB, Kind.UPDATE, round, client) for client in updates}
    return {key: decode(encode(key, updates[client])) for client, key in keys.items()}


def inputs(updates: dict[str, Tensors], start: Tensors, round: int = 1) -> Inputs:
    """What a request about `round` reads: its updates and the model that they started from, in this process."""
    data = dict(encoded(updates, round))
    key = Key(JOB, Kind.AGGREGATE, round - 1)
    data[key] = decode(encode(key, averaged(start)))
    return Inputs(Scope(JOB, round), data)
