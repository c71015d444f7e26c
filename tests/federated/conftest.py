"""A store that records what it is given, and a Flower app of a few numbers."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest


class RecordingStore:
    """The hook protocol of a store: `ingest` and `add_feeder`. It can be told to fail or to wait."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.feeders: list[Any] = []
        self.threads: set[str] = set()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.fails: Callable[[int], Exception | None] = lambda round: None

    def add_feeder(self, feeder: Any) -> None:
        self.feeders.append(feeder)

    def ingest(self, round: int, updates: Mapping, aggregate=None, metadata=None) -> None:
        assert self.may_go_on.wait(30)
        self.threads.add(threading.current_thread().name)
        if error := self.fails(round):
            raise error
        self.calls.append({"round": round, "updates": updates, "aggregate": aggregate, "metadata": metadata})

    def flush(self) -> None:
        for feeder in self.feeders:
            feeder.flush()

    def updates(self, round: int) -> dict[str, dict[str, np.ndarray]]:
        return {k: v for c in self.calls if c["round"] == round for k, v in c["updates"].items()}

    def aggregates(self) -> dict[int, dict[str, np.ndarray]]:
        found = [(c["round"], c["aggregate"]) for c in self.calls if c["aggregate"] is not None]
        assert len({r for r, _ in found}) == len(found), "an aggregate was ingested twice"
        return dict(found)

    def metadata(self, round: int) -> dict[str, dict[str, Any]]:
        merged: dict[str, dict[str, Any]] = {}
        for call in self.calls:
            if call["round"] == round:
                for client, values in (call["metadata"] or {}).items():
                    merged.setdefault(client, {}).update(values)
        return merged


@pytest.fixture(autouse=True, scope="module")
def little_garbage() -> Iterator[None]:
    """Flower collects garbage after each array that a strategy consumes; what was imported need not be looked at."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def recording_store() -> RecordingStore:
    return RecordingStore()
