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
SPLITS = {"even": 100.0, "uneven": 1.0}
"""Dirichlet concentration of the labels over clients; uneven as in the other experiments."""
GOAL = 0.9
MUST_FIND = ("sign-flipped", "noisy", "scaled")
TASK = {"model": "benchmarks.digits_net:build", "data": "benchmarks.digits_net:held_out"}
FINDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "filtering": ("malicious_filtering", {}),
    "filtering, krum": ("malicious_filtering", {"method": "krum"}),
    "debugging": ("debugging", TASK),
    "debugging, one layer": ("debugging", {**TASK, "layers": 1}),
}
"""With the parameters of each. On uneven labels the last layers of honest models differ most, so that all neurons
together say less than those of the first layer; the published method looks at all."""
MUST = ("filtering", "debugging", "debugging, one layer")
"""Who must find what must be found."""


def run(quick: bool = False) -> list[Row]:
    """Recall of each finder for each fault, and how many it blames in clean rounds, for labels that are even or not."""
    rows: list[Row] = []
    for split, alpha in SPLITS.items():
        rows += _of_split(split, alpha, QUICK_SEEDS if quick else SEEDS)
    return rows


def _of_split(split: str, alpha: float, seeds: int) -> list[Row]:
    found: Counter[tuple[str, str]] = Counter()
    blamed: Counter[tuple[str, str]] = Counter()
    for seed in range(seeds):
        for fault, faulty, job in _rounds(seed, alpha):
            for name, (workload, params) in FINDERS.items():
                guilty = _guilty(make(workload, **params), job)
                found[name, fault] += faulty in guilty
                blamed[name, fault] += len(guilty - {faulty} if fault != "none" else guilty)
    rows = []
    for name in FINDERS:
        for fault in planted.FAULTS[1:]:
            recall, wrong = found[name, fault] / seeds, blamed[name, fault] / seeds
            must = name in MUST and fault in MUST_FIND
            rows.append(_recall(f"faulty {split}, {fault}: {name}", recall, wrong, must, seeds))
        rate = 100 * blamed[name, "none"] / (seeds * CLIENTS)
        note = f"of {CLIENTS} honest clients in {seeds} rounds each"
        rows.append(Row(f"faulty {split}, clean: {name} blames", rate, "%", note=note, repetitions=seeds))
    return rows


def _rounds(seed: int, alpha: float) -> Iterator[tuple[str, str, SampleJob]]:
    """The same round of a training with each fault: what was planted, in whom, and the round."""
    training = planted.Run(seed, CLIENTS, alpha, WARM_UP)
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


def _recall(name: str, recall: float, wrong: float, must: bool, seeds: int) -> Row:
    return Row(
        name, recall, "of rounds", goal=f"at least {GOAL}" if must else "", met=recall >= GOAL if must else None,
        note=f"one faulty client of {CLIENTS}; {wrong:.2g} honest ones blamed a round", repetitions=seeds,
    )  # fmt: skip
