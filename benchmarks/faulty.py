"""Planted faulty clients on the updates of a real Flower app: who finds them, and who is blamed in a clean round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import planted
from benchmarks.rows import Row
from flstore.testing.sample_job import SampleJob
from flstore.workloads import Inputs, Scope, Workload, make

CLIENTS = 10
WARM_UP = 3
SEEDS, QUICK_SEEDS = 20, 1
ALPHA = 1.0
"""Dirichlet concentration of the labels over clients: as uneven as in the other experiments."""
GOAL = 0.9
TASK = {"model": "benchmarks.digits_net:build", "data": "benchmarks.digits_net:held_out"}
FINDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "malicious_filtering, cosine": ("malicious_filtering", {}),
    "malicious_filtering, krum": ("malicious_filtering", {"method": "krum"}),
    "debugging": ("debugging", TASK),
}
MUST_FIND = ("sign-flipped", "noisy", "scaled")


def run(quick: bool = False) -> list[Row]:
    """Recall of each finder for each fault, and whom it blames in clean rounds."""
    seeds = QUICK_SEEDS if quick else SEEDS
    found, blamed = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for seed in range(seeds):
        for fault, faulty, job in _rounds(seed):
            for name, (workload, params) in FINDERS.items():
                guilty = _guilty(make(workload, **params), job)
                found[name, fault] += faulty in guilty
                blamed[name, fault] += len(guilty - {faulty} if fault != "none" else guilty)
    rows = []
    for name in FINDERS:
        rows += [_recall(name, fault, found[name, fault] / seeds, seeds) for fault in planted.FAULTS if fault != "none"]
        rate = 100 * blamed[name, "none"] / (seeds * CLIENTS)
        rows.append(
            Row(f"faulty {name}: clients blamed in clean rounds", rate, "%", note=f"{seeds} rounds of {CLIENTS} clients")
        )
    return rows


def _rounds(seed: int) -> Iterator[tuple[str, str, SampleJob]]:
    """The same round of a training with each fault: what was planted, in whom, and the round."""
    training = planted.Run(seed, CLIENTS, ALPHA, WARM_UP)
    faulty = int(np.random.default_rng(seed).integers(CLIENTS))
    for fault in planted.FAULTS:
        job = SampleJob("faulty")
        job.add(WARM_UP, {}, aggregate=training.arrays)
        job.add(WARM_UP + 1, training.round(fault, faulty))
        yield fault, f"{faulty:02}", job


def _guilty(workload: Workload, job: SampleJob) -> set[str]:
    scope = Scope(job.name, WARM_UP + 1)
    result = workload.compute(Inputs(scope, {key: job.read(key) for key in workload.needs(scope, job)}))
    return set(result.flagged if workload.name == "malicious_filtering" else result.faulty)


def _recall(name: str, fault: str, recall: float, seeds: int) -> Row:
    must = fault in MUST_FIND and "krum" not in name
    return Row(
        f"faulty {name}: recall, {fault}", recall, goal=f"at least {GOAL}" if must else "",
        met=recall >= GOAL if must else None, note=f"{seeds} rounds of {CLIENTS} clients, one of them faulty",
        repetitions=seeds,
    )  # fmt: skip
