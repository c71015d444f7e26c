"""An ingest that the policy wants in memory, and what a training thread pays: parts of the benchmark ``ingest``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import rounds
from benchmarks.rows import Row, timed
from benchmarks.timing import Spread
from flstore import FLStore

AT_MOST = 3.0
CALL_MS = 20.0


def rows(
    title: str, updates: dict[str, rounds.Tensors], root: Path, repetitions: int, use: Callable[[], None]
) -> list[Row]:
    """Seconds until all is in the memory of a function, of the call that does not copy, and of Flower's observer.

    Parameters
    ----------
    title : str
        Of the rows.
    updates : dict
        What is ingested, round after round.
    root : Path
        A directory.
    repetitions : int
        Rounds that count; the first one does not.
    use : callable
        Uses and gives back memory, before each way.
    """
    flat = [np.concatenate([array.reshape(-1).view(np.uint8) for array in u.values()]) for u in updates.values()]
    seconds: dict[str, list[float]] = {name: [] for name in ("copy", "memory", "call", "observe")}
    with FLStore.local(functions=2, root=str(root / "memory"), job=rounds.JOB, memory="4GiB") as store:
        store.ingest(1, updates)
        store.request("clustering", round=1, k=2)  # from now on the policy wants what comes
        store.flush()
        held_up_s = 0.0
        for round in range(2, repetitions + 3):
            use()
            began = time.perf_counter()
            copies = [update.copy() for update in flat]
            seconds["copy"].append(time.perf_counter() - began)
            del copies
            use()
            began = time.perf_counter()
            receipt = store.ingest(round, updates, copy=False)
            seconds["call"].append(time.perf_counter() - began - receipt.waited_s)
            held_up_s += receipt.waited_s
            store._intake.settle()
            store._moves.wait()
            seconds["memory"].append(time.perf_counter() - began)
            store.flush()
            record = store.request("clustering", round=round, k=2).record  # the round before is dropped
            if record.misses or record.late_hits:
                raise RuntimeError(f"round {round} was not in memory; the figure would be of something else")
            store.flush()
    with FLStore.local(functions=1, root=str(root / "flower"), job=rounds.JOB) as store:
        seconds["observe"] = _observe(store, updates, repetitions)
    found = {name: Spread.of(values[1:]) for name, values in seconds.items()}
    return [
        timed(
            f"{title}: ten updates, until they are in a function's memory", found["memory"],
            peer="copy of the same bytes into new arrays", against=found["copy"], at_most=AT_MOST,
            note="replicas=0; they are written to files at the same time",
        ),
        _call(f"{title}: the call with copy=False", found["call"], f"{held_up_s:.2f} s of back-pressure left out"),
        _call(f"{title}: Flower's aggregate_train, observed", found["observe"], "the strategy itself does nothing"),
    ]  # fmt: skip


def _call(name: str, spread: Spread, note: str) -> Row:
    ms = spread.median * 1e3
    return Row(
        name, ms, "ms", goal=f"under {CALL_MS:g} ms", met=ms < CALL_MS, note=note,
        quartiles=(spread.low * 1e3, spread.high * 1e3), repetitions=spread.repetitions,
    )  # fmt: skip


def _observe(store: FLStore, updates: dict[str, rounds.Tensors], repetitions: int) -> list[float]:
    """What the training thread spends in the observer of a strategy that does nothing itself."""
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp.strategy import FedAvg

    from flstore.federated.grid import LocalGrid

    class Nothing(FedAvg):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            return None, None

    strategy = store.observe(Nothing())
    records = [ArrayRecord({name: Array(array) for name, array in update.items()}) for update in updates.values()]
    seconds = []
    with LocalGrid(lambda message, _: message, len(records)) as grid:  # messages exist in a run only
        for round in range(1, repetitions + 2):
            replies = []
            for node, record in zip(grid.get_node_ids(), records, strict=True):
                asked = Message(RecordDict({}), dst_node_id=node, message_type="train")
                content = RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": 1})})
                replies.append(Message(content, reply_to=asked))
            began = time.perf_counter()
            strategy.aggregate_train(round, replies)
            seconds.append(time.perf_counter() - began)
            store.flush()
    return seconds
