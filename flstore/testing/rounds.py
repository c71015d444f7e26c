"""Rounds of a job without training: what is sent has the size and form of the real thing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flstore.federated.rounds import RoundData
from flstore.task import Task


def made_rounds(state: Mapping[str, Any], rounds: int, clients: int, seed: int = 0) -> Iterator[RoundData]:
    """The model that training starts from as round 0, then rounds of updates that differ from it by a little noise.

    How long a request takes depends on what its updates weigh, not on whether they came from training.

    Parameters
    ----------
    state : mapping of str to ndarray
        Tensors of the model.
    rounds, clients : int
        How many rounds after round 0, and clients in each.
    seed : int
        Equal arguments give equal rounds.

    Examples
    --------
    >>> [(r.number, len(r.updates)) for r in made_rounds({"w": np.ones(3, np.float32)}, 2, 4)]
    [(0, 0), (1, 4), (2, 4)]
    """
    rng = np.random.default_rng(seed)
    yield RoundData(0, {}, state)
    for number in range(1, rounds + 1):
        updates = {f"client-{i}": _noisy(state, rng) for i in range(clients)}
        rows = {
            name: {"loss": float(rng.uniform(0.1, 2.0)), "num_examples": int(rng.integers(10, 100)), "lr": 0.01}
            for name in updates
        }
        yield RoundData(number, updates, _noisy(state, rng), rows)


def _noisy(state: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Noise on all weights, upwards, so that batch statistics stay positive."""
    return {
        name: array + np.float32(1e-3) * np.abs(rng.standard_normal(array.shape, np.float32))
        if array.dtype.kind == "f"
        else array
        for name, array in state.items()
    }


def task_of(model: str, examples: int, folder: str | os.PathLike[str]) -> Task:
    """How weights of one of the paper's networks are judged: on held-out digits, of which `folder` gets a file."""
    from flstore.federated.data import digits

    path = Path(folder) / "held_out.npz"
    held_out = digits()
    np.savez(path, x=held_out.test_images[:examples], y=held_out.test_labels[:examples])
    return Task(model=f"flstore.testing.factories:{model}", data=str(path))
