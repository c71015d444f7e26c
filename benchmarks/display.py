"""What a notebook waits for when a store shows itself: a large one, in HTML and as text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.rows import Row
from benchmarks.timing import Spread, interleaved
from flstore import FLStore
from flstore.types import Kind

ROUNDS, CLIENTS, REQUESTS = 1000, 200, 1000
GOAL_MS, GOAL_KB = 100.0, 200.0


def run(quick: bool = False) -> list[Row]:
    """A store of 1,000 rounds of 200 clients, of which the last rounds are in memory, after 1,000 requests."""
    rounds, clients, asked = (20, 10, 10) if quick else (ROUNDS, CLIENTS, REQUESTS)
    with large_store(rounds, clients, asked) as store:
        spreads = interleaved({"html": store._repr_html_, "text": lambda: repr(store)}, 3 if quick else 30, warm_up=2)
        kilobytes = len(store._repr_html_().encode()) / 1e3
    about = f"{rounds:,} rounds x {clients} clients, {asked:,} requests"
    html, text = spreads["html"], spreads["text"]
    return [
        _row(f"display: HTML of a store, {about}", html, f"under {GOAL_MS:g} ms", html.median * 1e3 < GOAL_MS),
        Row(f"display: its size, {about}", kilobytes, "kB", goal=f"under {GOAL_KB:g} kB", met=kilobytes < GOAL_KB),
        _row(f"display: the same as text, {about}", text),
    ]


@contextmanager
def large_store(rounds: int = ROUNDS, clients: int = CLIENTS, requests: int = 0) -> Iterator[FLStore]:
    """A store whose index holds that much; only its last three rounds have bytes, which are in memory."""
    with FLStore.local(functions=2, memory="256MiB", root="memory://large-display") as store:
        names = [f"client-{i:03d}" for i in range(clients)]
        with store._lock:
            for number in range(1, rounds - 2):
                sizes = dict.fromkeys(names, 1000)
                store._arrived([store._catalogue.ingested(Kind.UPDATE, number, sizes)], {})
        for number in range(rounds - 2, rounds + 1):
            updates = {name: {"w": np.full(16, number + i, "f4")} for i, name in enumerate(names)}
            store.ingest(number, updates, metadata={name: {"loss": 0.5} for name in names})
            store.request("cosine_similarity", round=number)
        for _ in range(max(0, requests - 3)):
            store.request("hyperparameters", round=rounds, last=1)
        store.flush()
        yield store


def _row(name: str, spread: Spread, goal: str = "", met: bool | None = None) -> Row:
    return Row(
        name, spread.median * 1e3, "ms", goal=goal, met=met, quartiles=(spread.low * 1e3, spread.high * 1e3),
        repetitions=spread.repetitions,
    )  # fmt: skip
