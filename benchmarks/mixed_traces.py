"""Traces in which several workloads ask while training goes on, as ``adaptive.yaml`` describes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from flstore.simulator import participation_trace

PLAN: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("adaptive.yaml").read_text(encoding="utf-8"))


def participation(scale: str) -> pd.DataFrame:
    """Who took part when."""
    return participation_trace(**PLAN["scales"][scale])


def trace(name: str, scale: str) -> pd.DataFrame:
    """The accesses of one trace, in order: columns round, client, workload and request."""
    run = participation(scale)
    by_round = {int(r): g["client"].tolist() for r, g in run.groupby("round")}
    rng = np.random.default_rng(PLAN["scales"][scale]["seed"] + 1)
    rows: list[tuple[int, int, int, int, Any, str, str]] = []
    for number, stream in enumerate(PLAN["traces"][name]):
        first, last = min(by_round), max(by_round)
        begin = first + int(stream.get("from", 0) * (last - first + 1))
        end = first + int(stream.get("to", 1) * (last - first + 1))
        asked = _PATTERNS[stream["pattern"]](by_round, rng, stream)
        for place, (now, round, client, request) in enumerate(asked):
            if begin <= now < end:
                rows.append((now, number, place, round, client, stream["workload"], f"{number} {request}"))
    frame = pd.DataFrame(sorted(rows), columns=["now", "stream", "place", "round", "client", "workload", "request"])
    return frame[["round", "client", "workload", "request"]]


Asked = Iterator[tuple[int, int, Any, str]]
"""When it is asked (a round), what it is about (round, client), and the request that it is part of."""


def _rounds(by_round: dict[int, list[Any]], rng: np.random.Generator, stream: dict[str, Any]) -> Asked:
    for now in by_round:
        round = now - stream["lag"]
        for client in by_round.get(round, []):
            yield now, round, client, f"{now} {client}" if stream.get("single") else f"{now}"


def _clients(by_round: dict[int, list[Any]], rng: np.random.Generator, stream: dict[str, Any]) -> Asked:
    everybody = sorted({c for clients in by_round.values() for c in clients})
    chosen = set(rng.choice(everybody, size=stream["clients"], replace=False).tolist())
    for now, clients in by_round.items():
        for client in clients:
            if client in chosen:
                yield now, now, client, f"{now} {client}"


def _repeated(by_round: dict[int, list[Any]], rng: np.random.Generator, stream: dict[str, Any]) -> Asked:
    few: list[tuple[int, Any]] = []
    for i, now in enumerate(by_round):
        if i % stream["every"] == 0:
            past = list(by_round)[: i + 1]
            few = [(r, rng.choice(by_round[r])) for r in rng.choice(past, size=3)]
        for k in range(stream["times"]):
            round, client = few[int(rng.integers(len(few)))]
            yield now, int(round), client, f"{now} {k}"


def _zipf(by_round: dict[int, list[Any]], rng: np.random.Generator, stream: dict[str, Any]) -> Asked:
    past: list[tuple[int, Any]] = []
    for now, clients in by_round.items():
        past += [(now, client) for client in clients]
        ranks = rng.zipf(stream["exponent"], size=stream["times"])
        for k, rank in enumerate(ranks):
            yield now, *past[(int(rank) - 1) % len(past)], f"{now} {k}"


_PATTERNS = {"rounds": _rounds, "clients": _clients, "metadata": _rounds, "repeated": _repeated, "zipf": _zipf}
