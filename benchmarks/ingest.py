"""What an ingest costs the training process that calls it, against a bare copy of the same bytes.

The first use of a page of memory costs many times what a copy into it costs, most of all in a virtual machine. So
before each way as much memory as it takes is used and given back: all ways then get pages that were in use before.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from benchmarks import into_memory, rounds
from benchmarks.rows import Row, timed
from benchmarks.timing import Spread
from flstore import FLStore
from flstore.codec import ClientUpdate, decode, encode
from flstore.tensors import Bytes, nonfinite
from flstore.types import Key, Kind

PEER = "copy of the same bytes into new arrays"


def run(quick: bool = False) -> list[Row]:
    """Ten updates, until the call returns, until all is durable, and until all is in the memory of a function."""
    name, state = rounds.model(quick)
    updates = rounds.perturbed(state)
    size = sum(array.nbytes for update in updates.values() for array in update.values())
    with tempfile.TemporaryDirectory() as root, FLStore.local(functions=2, root=root, job=rounds.JOB) as store:
        found = _measure(store, updates, Path(root), repetitions=2 if quick else 5)
    with tempfile.TemporaryDirectory() as root:
        more = into_memory.rows(
            f"ingest {name}", updates, Path(root), 2 if quick else 5, lambda: _use_and_give_back(4 * size)
        )
    call, copy, title = found["call"], found["copy"], f"ingest {name}"
    return [
        timed(f"{title}: ten updates, the call", call, peer=PEER, against=copy, note=f"{size / 1e6:.0f} MB"),
        timed(
            f"{title}: ten updates, until durable", found["durable"], peer="that copy and plain writes to files",
            against=found["written"], note="file://, no fsync; the store writes by several threads, the peer by one",
        ),
        *more,
        timed(f"{title}: the copy", copy),
        timed(f"{title}: the copy into one array again and again", found["warm"], peer="the copy", against=copy),
        timed(f"{title}: the copy and plain writes", found["written"]),
        timed(f"{title}: encode", found["encode"], peer="the call", against=call, note="layout, copy and checksum"),
        timed(f"{title}: checksum", found["checksum"], peer="the call", against=call, note="a part of encode"),
        timed(f"{title}: count of non-finite values", found["nonfinite"], peer="the call", against=call),
    ]  # fmt: skip


def _measure(store: FLStore, updates: dict[str, rounds.Tensors], root: Path, repetitions: int) -> dict[str, Spread]:
    """Seconds of each way and of the passes that an ingest is made of, in turn; the first turn does not count."""
    key = Key(rounds.JOB, Kind.UPDATE, 0, "client")
    ready = [decode(encode(key, update), verify=False) for update in updates.values()]
    target = np.empty(max(update.size_bytes for update in ready), np.uint8)
    seconds: dict[str, list[float]] = {}

    def note(name: str, way: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = way()
        seconds.setdefault(name, []).append(time.perf_counter() - began)
        return result

    size = sum(update.size_bytes for update in ready)
    for turn in range(repetitions + 1):
        _use_and_give_back(size)
        began = time.perf_counter()
        _write(note("copy", lambda: [_bytes(update).copy() for update in ready]), root / f"copy-{turn}")
        seconds.setdefault("written", []).append(time.perf_counter() - began)
        _use_and_give_back(size)
        note("encode", lambda: [encode(key, update) for update in updates.values()])
        _use_and_give_back(size)
        began = time.perf_counter()
        note("call", lambda: store.ingest(turn, updates))  # noqa: B023 (called at once)
        store.flush()
        seconds.setdefault("durable", []).append(time.perf_counter() - began)
        note("warm", lambda: _copy_all(ready, target))
        note("checksum", lambda: [xxhash.xxh3_128_hexdigest(update.buffer) for update in ready])
        note("nonfinite", lambda: [nonfinite(update) for update in ready])
    return {name: Spread.of(values[1:]) for name, values in seconds.items()}


def _use_and_give_back(size_bytes: int) -> None:
    np.empty(size_bytes + size_bytes // 4, np.uint8).fill(1)


def _bytes(update: ClientUpdate) -> Bytes:
    return np.frombuffer(update.buffer, np.uint8)


def _write(buffers: Sequence[Any], folder: Path) -> None:
    folder.mkdir()
    for number, buffer in enumerate(buffers):
        (folder / str(number)).write_bytes(buffer)


def _copy_all(updates: Sequence[ClientUpdate], target: Bytes) -> None:
    for update in updates:
        np.copyto(target[: update.size_bytes], _bytes(update))
