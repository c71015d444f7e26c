"""200 clients a round, 20 rounds of MobileNetV3-Small through the in-process grid, with the newest two rounds kept."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.rows import Row
from flstore import FLStore

CLIENTS, ROUNDS, RETENTION = 200, 20, 2
MODEL = "mobilenet_v3_small"
DISK_AT_MOST = 3e9
FUNCTION_MEMORY, FUNCTIONS = "2GiB", 1
OFTEN_S = 0.1


class Watch:
    """Looks at memory and disk all the time, on a thread of its own; keeps the highest.

    Memory is the proportional set size of this process and its children where the system tells it, so that pages which
    they share count once; else the resident size.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root)
        self.memory_bytes = self.training_bytes = self.disk_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(OFTEN_S):
            own = _memory(me)
            others = sum(map(_memory, me.children(recursive=True)))
            self.training_bytes = max(self.training_bytes, own)
            self.memory_bytes = max(self.memory_bytes, own + others)
            self.disk_bytes = max(self.disk_bytes, disk(self.root))


def _memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        found = process.memory_full_info()
        return int(getattr(found, "pss", found.rss))
    return 0


def disk(root: Path) -> int:
    """Bytes that the files below a folder take on the disk; those that come and go meanwhile may be missed."""
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
    return total


def run(quick: bool = False) -> list[Row]:
    """One batch a client and round: the store, the observer and Flower are what is measured, not the training."""
    from flstore.federated import run as train

    clients, rounds = (20, 4) if quick else (CLIENTS, ROUNDS)
    with tempfile.TemporaryDirectory() as root, Watch(root) as watch:
        began = time.perf_counter()
        with FLStore.local(functions=FUNCTIONS, memory=FUNCTION_MEMORY, root=root, retention=RETENTION) as store:
            history = train(
                model=MODEL, rounds=rounds, clients=clients, per_round=clients, max_batches=1, store=store,
                progress=False,
            )  # fmt: skip
            trained_s = time.perf_counter() - began
            store.flush()
            took_s = time.perf_counter() - began
            kept = store.rounds()
            counts = [len(store.clients(r)) for r in kept]
            answer_s = _ask(store)
        if kept != [rounds - 1, rounds] or counts != [clients] * RETENTION:
            raise RuntimeError(f"rounds {kept} with {counts} updates are kept; the figures would be of something else")
        update_bytes = disk(Path(root)) / (RETENTION * clients)
    later = sorted(history.seconds[2:])
    round_bytes = update_bytes * clients
    what = f"many_clients: {clients} clients x {rounds} rounds"
    return [
        Row(
            f"{what}: disk at most", watch.disk_bytes / 1e9, "GB", goal=f"at most {DISK_AT_MOST / 1e9:g} GB",
            met=watch.disk_bytes <= DISK_AT_MOST, note=f"retention={RETENTION}; a round is {round_bytes / 1e9:.2f} GB",
        ),
        Row(
            f"{what}: memory at most", watch.memory_bytes / 2**30, "GiB",
            note=f"all processes, shared pages once; {FUNCTIONS} function of {FUNCTION_MEMORY}",
        ),
        Row(
            f"{what}: memory of the training process", watch.training_bytes / 2**30, "GiB", peer="a round of updates",
            ratio=watch.training_bytes / round_bytes, note="Flower, its replies, the observer and the write buffer",
        ),
        Row(
            f"{what}: seconds", took_s, "s",
            note=f"one batch a client; median round {later[len(later) // 2]:.1f} s, flush {took_s - trained_s:.1f} s",
        ),
        Row(f"{what}: malicious_filtering of the last round", answer_s, "s", note=f"{clients} updates"),
    ]  # fmt: skip


def _ask(store: FLStore) -> float:
    began = time.perf_counter()
    store.request("malicious_filtering", round=store.rounds()[-1])
    return time.perf_counter() - began
