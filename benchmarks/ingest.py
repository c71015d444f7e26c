"""What an ingest costs the training process that calls it, against a bare copy of the same bytes."""

from __future__ import annotations

import tempfile
import time

import numpy as np
import xxhash

from benchmarks import rounds
from benchmarks.rows import Row, timed
from benchmarks.timing import Spread, interleaved
from flstore import FLStore
from flstore.codec import decode, encode
from flstore.tensors import nonfinite
from flstore.types import Key, Kind


def run(quick: bool = False) -> list[Row]:
    """Ten updates a round, until the call returns and until all is durable. Nothing is cached: there was no request."""
    name, state = rounds.model(quick)
    updates = rounds.perturbed(state)
    calls, durable = _ingests(updates, repetitions=2 if quick else 5)
    parts = _parts(updates, repetitions=2 if quick else 5)
    size = sum(array.nbytes for update in updates.values() for array in update.values())
    copy, title = parts["copy"], f"ingest {name}"
    peer = "copy of the same bytes into fresh memory"
    whole = "the ingest"
    return [
        timed(f"{title}: ten updates, the call", calls, peer=peer, against=copy, note=f"{size / 1e6:.0f} MB"),
        timed(f"{title}: ten updates, until durable", durable, peer=peer, against=copy, note="file://, without fsync"),
        timed(f"{title}: the copy", copy, note=f"{parts['warm'].median * 1e3:.0f} ms into memory in use"),
        timed(f"{title}: encode", parts["encode"], peer=whole, against=calls, note="layout, copy and checksum"),
        timed(f"{title}: checksum", parts["hash"], peer=whole, against=calls, note="a part of encode"),
        timed(f"{title}: count of non-finite values", parts["nonfinite"], peer=whole, against=calls),
    ]


def _ingests(updates: dict[str, rounds.Tensors], repetitions: int) -> tuple[Spread, Spread]:
    """Seconds until the call returns, and until the round is durable; each time another round, flushed between."""
    calls, durable = [], []
    with tempfile.TemporaryDirectory() as root, FLStore.local(functions=2, root=root, job=rounds.JOB) as store:
        for turn in range(repetitions + 1):
            began = time.perf_counter()
            store.ingest(turn, updates)
            took = time.perf_counter() - began
            store.flush()
            if turn:
                calls.append(took)
                durable.append(time.perf_counter() - began)
    return Spread.of(calls), Spread.of(durable)


def _parts(updates: dict[str, rounds.Tensors], repetitions: int) -> dict[str, Spread]:
    """The passes over the data that an ingest is made of, one by one, over all ten updates."""
    key = Key(rounds.JOB, Kind.UPDATE, 1, "client")
    ready = [decode(encode(key, update), verify=False) for update in updates.values()]
    target = np.empty(max(update.size_bytes for update in ready), np.uint8)

    def fresh() -> None:
        kept = [np.frombuffer(update.buffer, np.uint8).copy() for update in ready]
        assert len(kept) == len(ready)

    def warm() -> None:
        for update in ready:
            target[: update.size_bytes] = np.frombuffer(update.buffer, np.uint8)

    def encoded() -> None:
        kept = [encode(key, update) for update in updates.values()]
        assert len(kept) == len(ready)

    ways = {
        "copy": fresh, "warm": warm, "encode": encoded,
        "hash": lambda: [xxhash.xxh3_128_hexdigest(update.buffer) for update in ready],
        "nonfinite": lambda: [nonfinite(update) for update in ready],
    }  # fmt: skip
    return interleaved(ways, repetitions)
