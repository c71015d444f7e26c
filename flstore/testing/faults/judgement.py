"""What a run under faults found, and what it should have found: the original arrays, and what follows from them."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flstore import workloads
from flstore.codec import encode
from flstore.errors import FLStoreError
from flstore.persistence import ObjectStore
from flstore.persistence.values import read
from flstore.testing.sample_job import SampleJob
from flstore.types import Key, Kind
from flstore.workloads.base import Inputs, Scope

CLIENTS = 5
VALUES = 2_000


@dataclass
class Outcome:
    """What a fault run found.

    Attributes
    ----------
    faults : Counter
        Faults by kind.
    requests, excused : int
        Requests made, and those that failed with the right error because the object was damaged on disk and held
        nowhere else.
    lost, wrong, failed : list of str
        Updates that are not what was ingested, answers that differ from the right one, requests that failed.
    """

    faults: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    excused: int = 0
    updates: int = 0
    seconds: float = 0.0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing lost, wrong or failed."""
        return not (self.lost or self.wrong or self.failed)

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**dataclasses.asdict(self), "faults": dict(self.faults), "clean": self.clean}

    def __str__(self) -> str:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.faults.items()))
        counts = f"{sum(self.faults.values())} faults ({kinds}), {self.requests} requests, {self.updates} updates"
        found = f"{len(self.lost)} updates lost, {len(self.wrong)} wrong answers, {len(self.failed)} requests failed"
        lines = [f"{counts}, {self.seconds:.0f} s", f"{found}, {self.excused} failed rightly (data nowhere left)"]
        return "\n".join([*lines, *self.lost[:5], *self.wrong[:5], *self.failed[:5]])


class Truth:
    """The original arrays, and the answers that follow from them."""

    def __init__(self) -> None:
        self._job = SampleJob("default")
        self._answers: dict[Any, Any] = {}
        self._lock = threading.Lock()
        self.rounds: list[int] = []

    def make(self, round: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Updates, metadata and aggregate of a round: a pure function of its number."""

        def tensors(who: int) -> dict[str, Any]:
            rng = np.random.default_rng([round, who])
            return {"w": rng.normal(size=VALUES).astype("f4"), "seen": np.array(round)}

        updates = {f"c{i}": tensors(i) for i in range(CLIENTS)}
        rows = {f"c{i}": {"lr": 0.1 / (round + 1), "loss": float(i) / (round + 1)} for i in range(CLIENTS)}
        return updates, rows, tensors(10**6)

    def ingested(self, round: int) -> None:
        """From now on requests may be about this round."""
        updates, rows, aggregate = self.make(round)
        for client, row in rows.items():  # what an ingest adds
            row |= {
                "size_bytes": len(encode(Key("default", Kind.UPDATE, round, client), updates[client])),
                "nonfinite": 0,
            }
        with self._lock:
            self._job.add(round, updates, aggregate, rows)
            self.rounds.append(round)

    def draw(self, rng: random.Random) -> tuple[str, dict[str, Any]]:
        """A request: mostly about new rounds, sometimes about any."""
        with self._lock:
            rounds = list(self.rounds)
        round = rng.choice(rounds[-4:]) if rng.random() < 0.8 else rng.choice(rounds)
        name = rng.choice(["clustering", "cosine_similarity", "malicious_filtering", "lineage", "hyperparameters"])
        if name == "lineage":
            return name, {"client": f"c{rng.randrange(CLIENTS)}", "rounds": sorted({round, rng.choice(rounds)})}
        return name, {"round": round, **({"k": 2} if name == "clustering" else {})}

    def answer(self, name: str, asked: dict[str, Any]) -> Any:
        """What the workload says about the original arrays, in this process."""
        what = (name, tuple(sorted((k, str(v)) for k, v in asked.items())))
        with self._lock:
            if what not in self._answers:
                about = {k: v for k, v in asked.items() if k in ("round", "client")}
                rounds = tuple(asked["rounds"]) if "rounds" in asked else None
                scope = Scope("default", rounds=rounds, **about)
                workload = workloads.make(name, **{k: v for k, v in asked.items() if k == "k"})
                data = {key: self._job.read(key) for key in workload.needs(scope, self._job)}
                self._answers[what] = workload.compute(Inputs(scope, data))
            return self._answers[what]


def difference(found: Any, right: Any) -> str:
    """What of a result is not as in the right one, in words; empty when nothing is."""
    for f in dataclasses.fields(right):
        mine, theirs = getattr(found, f.name), getattr(right, f.name)
        try:
            if isinstance(theirs, np.ndarray) and theirs.dtype.kind == "f":
                np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12)
            else:
                np.testing.assert_equal(mine, theirs)
        except AssertionError as error:
            return f"{f.name}: {' '.join(str(error).split())[:200]}"
    return ""


def lost_updates(root: str, truth: Truth) -> list[str]:
    """Which of the objects that were ingested the persistent store does not have, read with nothing else alive."""
    objects, lost = ObjectStore(root), []
    for round in truth.rounds:
        updates, _, aggregate = truth.make(round)
        for client, tensors in [*updates.items(), (None, aggregate)]:
            key = Key("default", Kind.AGGREGATE if client is None else Kind.UPDATE, round, client)
            try:
                found, _ = read(objects, key)
                if not all(np.array_equal(found[name], tensor) for name, tensor in tensors.items()):
                    lost.append(f"{key} is another one")
            except FLStoreError as error:
                lost.append(repr(error))
    return lost
