"""How many cached requests a second a store answers, from threads and from coroutines, and what each one costs."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from benchmarks.rows import Row
from benchmarks.timing import Spread
from flstore import FLStore

IN_FLIGHT = 100
GOAL_PER_S = 1000.0
ASK: dict[str, Any] = {"workload": "cosine_similarity", "round": 3, "of": "model"}
PEER = "Dask's own submit of an empty function, as many in flight"


@dataclass(frozen=True)
class Burst:
    """Many requests, so many in flight: seconds in all, each one's latency, processor seconds of each process."""

    took_s: float
    latencies_s: list[float]
    caller_cpu_s: float
    functions_cpu_s: float

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.took_s


def run(quick: bool = False) -> list[Row]:
    """Requests about a round of ten tiny updates; every one is checked to be a hit."""
    count, repetitions = (200, 2) if quick else (3000, 5)
    with tempfile.TemporaryDirectory() as root, FLStore.local(functions=2, root=root, memory="256MiB") as store:
        fill(store)
        bursts: dict[str, list[Burst]] = {"threads": [], "coroutines": [], "one": []}
        peers = []
        for turn in range(repetitions + 1):
            found = {
                "threads": burst(store, count, IN_FLIGHT),
                "coroutines": asyncio.run(_coroutines(store, count)),
                "one": burst(store, count // 10, 1),
            }
            peer = _dask(store, count // 4)
            if turn:  # the first one opens connections
                peers.append(peer)
                for name, measured in found.items():
                    bursts[name].append(measured)
        made = len(store.requests)
    return _rows(bursts, peers, made)


def fill(store: FLStore) -> None:
    """Three rounds of ten updates of 100 numbers, and a request that makes the policy hold the last one."""
    rng = np.random.default_rng(0)
    for round in (1, 2, 3):
        store.ingest(round, {f"c{i}": {"w": rng.normal(size=100).astype("f4")} for i in range(10)})
    store.request(**ASK)
    store.flush()


def burst(store: FLStore, count: int, in_flight: int) -> Burst:
    """`count` requests from one thread, never more than `in_flight` open.

    Raises
    ------
    RuntimeError
        One of them was no hit.
    """
    room = threading.Semaphore(in_flight)
    answers: list[Future[Any]] = []
    watch = _Watch(store)
    for _ in range(count):
        room.acquire()
        answers.append(store.submit(**ASK))
        answers[-1].add_done_callback(lambda _: room.release())
    return watch.stop([answer.result() for answer in answers])


async def _coroutines(store: FLStore, count: int) -> Burst:
    watch, results = _Watch(store), []

    async def one() -> None:
        for _ in range(count // IN_FLIGHT):
            results.append(await store.ask(**ASK))

    await asyncio.gather(*(one() for _ in range(IN_FLIGHT)))
    return watch.stop(results)


def _dask(store: FLStore, count: int) -> float:
    """What the cluster itself does with as many tasks in flight, tasks a second."""
    client = store._pool.client
    began = time.perf_counter()
    for _ in range(count // IN_FLIGHT or 1):
        client.gather([client.submit(_nothing, pure=False) for _ in range(IN_FLIGHT)])
    return (count // IN_FLIGHT or 1) * IN_FLIGHT / (time.perf_counter() - began)


def _nothing() -> None:
    return None


class _Watch:
    """Wall clock and processor time of the caller and of the functions, since it was made."""

    def __init__(self, store: FLStore) -> None:
        self._functions = [psutil.Process(function.pid) for function in store._pool.functions.values()]
        self._before = self._cpu()
        self._began = time.perf_counter()

    def _cpu(self) -> tuple[float, float]:
        mine = psutil.Process().cpu_times()
        others = [process.cpu_times() for process in self._functions]
        return mine.user + mine.system, sum(times.user + times.system for times in others)

    def stop(self, results: list[Any]) -> Burst:
        took = time.perf_counter() - self._began
        if any(result.record.misses or result.record.late_hits for result in results):
            raise RuntimeError("a request was no hit; the figure would be of something else")
        caller, functions = (after - before for before, after in zip(self._before, self._cpu(), strict=True))
        return Burst(took, [result.record.latency_s for result in results], caller, functions)


def _rows(bursts: dict[str, list[Burst]], peers: list[float], made: int) -> list[Row]:
    peer = Spread.of(peers)
    threads, coroutines, one = (Spread.of([b.per_s for b in bursts[name]]) for name in bursts)
    latencies = np.array([s for b in bursts["threads"] for s in b.latencies_s]) * 1e3
    drift = bursts["threads"][-1].per_s / bursts["threads"][0].per_s
    each = sum(len(b.latencies_s) for b in bursts["threads"])
    cpu = {side: sum(getattr(b, f"{side}_cpu_s") for b in bursts["threads"]) / each for side in ("caller", "functions")}
    return [
        _rate(
            f"requests: {IN_FLIGHT} in flight from a thread", threads, PEER, threads.median / peer.median,
            f"at least {GOAL_PER_S:g}/s", threads.median >= GOAL_PER_S,
        ),
        _rate(f"requests: {IN_FLIGHT} coroutines", coroutines, PEER, coroutines.median / peer.median),
        _rate("requests: one at a time", one),
        _rate("requests: Dask's own submit", peer),
        Row(f"requests: median latency of {IN_FLIGHT} in flight", float(np.median(latencies)), "ms"),
        Row(f"requests: 95th percentile of {IN_FLIGHT} in flight", float(np.percentile(latencies, 95)), "ms"),
        Row("requests: processor time of the caller", cpu["caller"] * 1e3, "ms", note="a request"),
        Row("requests: processor time of the functions", cpu["functions"] * 1e3, "ms", note="a request"),
        Row(
            "requests: the last turn's rate over the first one's", drift,
            note=f"{made} requests were made in all; 1 means that their number does not matter",
        ),
    ]  # fmt: skip


def _rate(
    name: str, spread: Spread, peer: str = "", ratio: float | None = None, goal: str = "", met: bool | None = None
) -> Row:
    return Row(
        name, spread.median, "requests/s", peer, ratio, goal, met,
        quartiles=(spread.low, spread.high), repetitions=spread.repetitions,
    )  # fmt: skip
