"""Asks every system the same things, in turn, and writes down what each request took."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from benchmarks.latency.parameters import Parameters
from benchmarks.latency.systems import busy_s, opened, recorded, rounds, take_in
from flstore.system import System
from flstore.testing.comparing import same_answer

FIELDS = ("queue_s", "fetch_s", "compute_s", "hits", "late_hits", "misses", "bytes_moved", "derived")


@dataclass(frozen=True)
class Pass:
    """One way through the trace.

    Attributes
    ----------
    column : str
        The column of the table that it is for.
    systems : list of str
        Who is asked.
    asks : dict of str to int
        How often each system is asked the same about a round, at most.
    requests : list of (str, str, dict)
        Label, workload and parameters.
    derive : bool
        FLStore computes ahead.
    """

    column: str
    systems: list[str]
    asks: dict[str, int]
    requests: list[tuple[str, str, dict[str, Any]]]
    derive: bool = False


def passes(parameters: Parameters, model: str) -> Iterator[Pass]:
    """What is measured of a model, one after the other."""
    asks = parameters.asks_about(model)
    counted = [(name, name, params) for name, params in parameters.workloads.items()]
    beside = [
        (" ".join([name, *map(str, params.values())]), name, params) for name, params in parameters.beside.items()
    ]
    everyone = {**dict.fromkeys(parameters.systems, asks), **dict.fromkeys(parameters.fairness, 1)}
    yield Pass("exact", list(everyone), everyone, counted + beside)
    yield Pass("derived", ["FLStore"], {"FLStore": asks}, counted, derive=True)
    rough = [(name, name, {**parameters.workloads[name], "precision": "bfloat16"}) for name in parameters.evaluations]
    yield Pass("bfloat16", parameters.systems, dict.fromkeys(parameters.systems, 1), rough)


def measure(model: str, parameters: Parameters) -> pd.DataFrame:
    """One row a request that was sent.

    Returns
    -------
    DataFrame
        model, column ("exact", "derived", "bfloat16"), workload, round, system, ask, latency_s, the fields of its
        record, `ahead_s` (processor seconds of FLStore's functions while the round was taken in), `weight` (how many
        requests of the trace it stands for), `equal` (its answer is that of the first system).
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="flstore-latency-") as folder, ExitStack() as stack:
        files = stack.enter_context(recorded(model, parameters, Path(folder)))
        for way in passes(parameters, model):
            with opened(
                way.systems, model, parameters, Path(tempfile.mkdtemp(dir=folder)), files, way.derive
            ) as systems:
                for about in tqdm(list(rounds(files)), f"{model} {way.column}", disable=None):
                    before_s = busy_s(systems)
                    take_in(systems, about)
                    fixed = {"model": model, "column": way.column, "ahead_s": busy_s(systems) - before_s}
                    for request in way.requests if about.updates else []:
                        found = _asked(systems, about.number, request, way.asks, parameters.again_below_s)
                        rows += [{**fixed, **row} for row in found]
    return pd.DataFrame(rows)


@dataclass
class _Answers:
    """What one system said to the same request, asked again and again."""

    asks: int
    history: bool
    rows: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False

    def note(self, row: dict[str, Any], again_below_s: float) -> None:
        self.rows.append(row)
        missed = self.history and row["misses"] + row["late_hits"] > 0
        self.done = len(self.rows) == self.asks or (not missed and row["latency_s"] > again_below_s)

    def weighted(self, asks: int) -> list[dict[str, Any]]:
        """The rows, which stand for `asks` requests; one that missed something stands for itself alone."""
        alone = [self.history and row["misses"] + row["late_hits"] > 0 for row in self.rows]
        others = len(alone) - sum(alone)
        weight = (asks - sum(alone)) / others if others else asks / len(alone)
        return [{**row, "weight": 1.0 if one and others else weight} for row, one in zip(self.rows, alone, strict=True)]


def _asked(
    systems: Mapping[str, System],
    round: int,
    request: tuple[str, str, dict[str, Any]],
    asks: dict[str, int],
    again_below_s: float,
) -> list[dict[str, Any]]:
    label, workload, params = request
    answers = {name: _Answers(asks[name], name == "FLStore") for name in systems}
    expected: list[Any] = []
    for ask in range(max(asks.values())):
        waiting = [name for name in systems if not answers[name].done]
        turn = (round + ask) % max(1, len(waiting))
        for name in waiting[turn:] + waiting[:turn]:
            began = time.perf_counter()
            result = systems[name].request(workload, round=round, **params)
            took_s = time.perf_counter() - began
            expected = expected or [result.value]
            row = {
                "workload": label, "round": round, "system": name, "ask": ask, "latency_s": took_s,
                **{name: getattr(result.record, name) for name in FIELDS},
                "equal": same_answer(result.value, expected[0]),
            }  # fmt: skip
            answers[name].note(row, again_below_s)
    return [row for name in systems for row in answers[name].weighted(max(asks.values()))]
