"""The systems that are compared, on real servers, and the recorded training that all of them take in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.latency.parameters import Parameters
from benchmarks.latency.task import task
from flstore import FLStore
from flstore.baselines import CacheAgg, LocalFiles, ObjStoreAgg
from flstore.federated import run
from flstore.system import System
from flstore.testing.services import S3Server, rclone_s3, redis_server

KEPT, FILE_CACHE = "ObjStore-Agg last round kept", "ObjStore-Agg file cache"
READERS = ("ObjStore-Agg", FILE_CACHE)
"""They read what FLStore wrote: nothing needs to be stored twice."""


@contextmanager
def recorded(model: str, parameters: Parameters, folder: Path) -> Iterator[LocalFiles]:
    """Rounds of a real federated training, as files."""
    with LocalFiles(folder / "recorded") as store:
        store.task(**vars(task(model)))
        run(
            model=model, rounds=parameters.rounds[model], clients=parameters.clients,
            per_round=parameters.clients_per_round, max_batches=parameters.max_batches, seed=parameters.seed,
            store=store, progress=False,
        )  # fmt: skip
        store.flush()
        yield store


@dataclass(frozen=True)
class Round:
    """What a round brings."""

    number: int
    updates: Mapping[str, Any]
    aggregate: Any
    metadata: Mapping[str, Mapping[str, Any]]


def rounds(store: System) -> Iterator[Round]:
    """What was recorded, round by round; the first has only the model that training started from."""
    frame = store.metadata()
    for number in range(max(store.rounds()) + 1):
        clients = store.clients(number) if number in store.rounds() else []
        rows = {c: frame.loc[(number, c)].dropna().to_dict() for c in clients if (number, c) in frame.index}
        updates = {client: store.update(number, client) for client in clients}
        yield Round(number, updates, store.aggregate(number), rows)


@contextmanager
def opened(
    names: list[str], model: str, parameters: Parameters, folder: Path, files: LocalFiles, derive: bool = False
) -> Iterator[dict[str, System]]:
    """The systems by name, each without data but for the recorded files."""
    with ExitStack() as stack:
        s3 = stack.enter_context(rclone_s3(folder))
        s3.create_bucket("latency")
        found: dict[str, System] = {}
        for name in names:
            system = files if name == files.name else _start(name, model, parameters, folder, s3, stack, derive)
            system.task(**vars(task(model)))
            found[name] = system
        _await_ready(found["FLStore"])
        yield found


def _await_ready(store: Any) -> None:
    """Return when the functions have imported what the task names."""
    what = {"model": store.task().model, "data": store.task().data}
    for number in store._pool.functions:
        asyncio.run_coroutine_threadsafe(store._pool.call(number, "prepare", task=what), store._pool.loop).result()


def _start(
    name: str, model: str, parameters: Parameters, folder: Path, s3: S3Server, stack: ExitStack, derive: bool
) -> System:
    ours = {"root": "s3://latency/ours", "storage_options": s3.storage_options}
    if name == "FLStore":
        return stack.enter_context(
            FLStore.local(
                functions=parameters.functions, memory=parameters.function_memory[model],
                scratch_share=parameters.scratch_share, derive=derive, **ours,
            )
        )  # fmt: skip
    if name == "Cache-Agg":
        return stack.enter_context(CacheAgg(stack.enter_context(redis_server(folder)).url))
    if name == KEPT:
        kept = {**ours, "root": "s3://latency/kept"}
        return stack.enter_context(ObjStoreAgg(**kept, keep_last_round=True))
    cache = {"cache": folder / "cache"} if name == FILE_CACHE else {}
    return stack.enter_context(ObjStoreAgg(**ours, **cache))


def take_in(systems: Mapping[str, System], round: Round) -> None:
    """Every system has the round, and it is durable where there is something to make it so."""
    for name, system in systems.items():
        if name not in (*READERS, LocalFiles.name):
            system.ingest(round.number, round.updates, aggregate=round.aggregate, metadata=round.metadata)
            system.flush()
    for name in READERS:
        if name in systems:
            systems[name].refresh([round.number])  # type: ignore[attr-defined]


def busy_s(systems: Mapping[str, System]) -> float:
    """Processor seconds that FLStore's functions have used so far."""
    store: Any = systems["FLStore"]
    times = [psutil.Process(function.pid).cpu_times() for function in store._pool.functions.values()]
    return sum(float(time.user + time.system) for time in times)
