"""A small job in memory: what workloads are tested on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from flstore.codec import decode, encode
from flstore.errors import UpdateNotFoundError
from flstore.functions import wire
from flstore.tensors import aligned_copy
from flstore.types import Key, Kind
from flstore.workloads.base import Inputs, Scope, Workload

Tensors = Mapping[str, Any]
T = TypeVar("T", int, str)


class SampleJob:
    """Objects of one job as they are stored, and the catalogue of them (:class:`flstore.workloads.Catalogue`).

    Parameters
    ----------
    name : str
        The id of the job.

    Attributes
    ----------
    buffers : dict of Key to bytes-like
        Encoded objects; every :meth:`read` makes new ones of them.

    Examples
    --------
    >>> job = SampleJob("demo")
    >>> job.add(1, {"7": {"w": np.ones(3)}}, metadata={"7": {"loss": 0.5}})
    >>> job.clients(1), job.read(Key("demo", Kind.METADATA, 1, "7"))
    (['7'], {'loss': 0.5})
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.buffers: dict[Key, Any] = {}

    def add(
        self,
        round: int,
        updates: Mapping[str, Tensors],
        aggregate: Tensors | None = None,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Take in a round, as :meth:`flstore.FLStore.ingest` does."""
        named = {Key(self.name, Kind.UPDATE, round, client): tensors for client, tensors in updates.items()}
        if aggregate is not None:
            named[Key(self.name, Kind.AGGREGATE, round)] = aggregate
        self.buffers |= {key: encode(key, tensors) for key, tensors in named.items()}
        for client, row in (metadata or {}).items():
            self.buffers[Key(self.name, Kind.METADATA, round, client)] = wire.pack(dict(row))

    def read(self, key: Key) -> Any:
        """An object as workloads see it, in memory of its own."""
        if key.kind is Kind.METADATA:
            return wire.unpack(self.buffers[key])
        return decode(aligned_copy(self.buffers[key]), key=key)

    def ask(self, workload: Workload, **about: Any) -> Any:
        """What a request about a round, a client or some rounds is answered."""
        scope = Scope(self.name, **about)
        return workload.compute(Inputs(scope, {key: self.read(key) for key in workload.needs(scope, self)}))

    def rounds(self) -> list[int]:
        """All rounds with client updates, ascending."""
        return sorted({key.round for key in self._of(Kind.UPDATE)})

    def clients(self, round: int) -> list[str]:
        """Clients with an update in `round`, sorted."""
        found = [str(key.client) for key in self._of(Kind.UPDATE) if key.round == round]
        return self._some(found, f"update in round {round}", self.rounds())

    def rounds_of(self, client: str) -> list[int]:
        """Rounds in which `client` took part, ascending."""
        found = [key.round for key in self._of(Kind.UPDATE) if key.client == client]
        return self._some(found, f"update of client {client!r}", {str(k.client) for k in self._of(Kind.UPDATE)})

    def has_aggregate(self, round: int) -> bool:
        """Whether the global model after `round` is stored."""
        return Key(self.name, Kind.AGGREGATE, round) in self.buffers

    def clients_with_metadata(self, round: int) -> list[str]:
        """Clients with metadata in `round`, sorted."""
        return sorted(str(key.client) for key in self._of(Kind.METADATA) if key.round == round)

    def _of(self, kind: Kind) -> list[Key]:
        return [key for key in self.buffers if key.kind is kind]

    def _some(self, found: list[T], what: str, known: Iterable[object]) -> list[T]:
        if not found:
            raise UpdateNotFoundError(f"job {self.name!r} has no {what}; there are: {', '.join(map(str, known))}")
        return sorted(found)


def sample_job(name: str = "sample", seed: int = 2025) -> SampleJob:
    """Four rounds of six clients, five of which take part in each; a pure function of its parameters.

    Clients are ``c0`` to ``c5``, and ``c1`` is in every round; rounds are 1 to 4, with the initial model as aggregate
    of round 0. An update has a matrix and a vector (float32) and a counter (int64). Metadata has a loss, an accuracy, a
    learning rate and the number of examples.
    """
    rng, job = np.random.default_rng(seed), SampleJob(name)

    def tensors(round: int) -> dict[str, Any]:
        weights = {"dense.weight": (8, 4), "dense.bias": (4,)}
        made = {key: rng.normal(size=shape).astype(np.float32) for key, shape in weights.items()}
        return {**made, "steps": np.array(10 * round)}

    job.add(0, {}, aggregate=tensors(0))
    for round in (1, 2, 3, 4):
        present = [f"c{i}" for i in range(6) if i != round + 1]
        rows = {
            client: {
                "loss": float(rng.uniform(0.1, 2)) / round, "accuracy": float(rng.uniform(0.3, 0.9)),
                "lr": 0.1 / round, "examples": int(rng.integers(50, 500)),
            }
            for client in present
        }  # fmt: skip
        job.add(round, {client: tensors(round) for client in present}, aggregate=tensors(round), metadata=rows)
    return job
