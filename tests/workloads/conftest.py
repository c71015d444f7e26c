"""A job whose objects are in memory: what a workload sees on a cache function, from the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from flstore.codec import ClientUpdate, decode, encode
from flstore.errors import UpdateNotFoundError
from flstore.types import Key, Kind
from flstore.workloads import Inputs, Scope, Workload

Tensors = Mapping[str, Any]


class Job:
    """Encoded and decoded objects of one job, and the catalogue of them."""

    def __init__(self) -> None:
        self.data: dict[Key, Any] = {}

    def add(
        self,
        round: int,
        updates: Mapping[str, Tensors],
        aggregate: Tensors | None = None,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Job:
        for client, tensors in updates.items():
            self._put(Key("job", Kind.UPDATE, round, client), tensors)
        if aggregate is not None:
            self._put(Key("job", Kind.AGGREGATE, round), aggregate)
        for client, values in (metadata or {}).items():
            self.data[Key("job", Kind.METADATA, round, client)] = dict(values)
        return self

    def _put(self, key: Key, tensors: Tensors) -> None:
        self.data[key] = decode(encode(key, {name: np.asarray(value) for name, value in tensors.items()}))

    def updates(self, round: int = 1) -> list[ClientUpdate]:
        return [self.data[Key("job", Kind.UPDATE, round, client)] for client in self.clients(round)]

    def ask(self, workload: Workload, **scope: Any) -> Any:
        """What a request does: only the objects that the workload asked for are at hand."""
        where = Scope("job", **scope)
        return workload.compute(Inputs(where, {key: self.data[key] for key in workload.needs(where, self)}))

    def rounds(self) -> list[int]:
        return sorted({key.round for key in self.data if key.kind is Kind.UPDATE})

    def clients(self, round: int) -> list[str]:
        return self._some([str(k.client) for k in self.data if k.kind is Kind.UPDATE and k.round == round], round)

    def rounds_of(self, client: str) -> list[int]:
        return self._some([k.round for k in self.data if k.kind is Kind.UPDATE and k.client == client], client)

    def has_aggregate(self, round: int) -> bool:
        return Key("job", Kind.AGGREGATE, round) in self.data

    def clients_with_metadata(self, round: int) -> list[str]:
        return sorted(str(k.client) for k in self.data if k.kind is Kind.METADATA and k.round == round)

    @staticmethod
    def _some(found: list[Any], wanted: Any) -> list[Any]:
        if not found:
            raise UpdateNotFoundError(f"nothing of {wanted!r}")
        return sorted(found)


@pytest.fixture
def job() -> Job:
    return Job()


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(2025)
