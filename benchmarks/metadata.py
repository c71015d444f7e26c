"""Requests that read metadata alone (P4), end to end, against a Redis on the same machine.

FLStore answers them in its own process, with everything that a request has: checks, the policy, the event log, the
record. The peer has none of that: it gets the documents over a unix socket, reads the JSON and computes.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.rows import Row, timed
from benchmarks.timing import Spread, interleaved
from flstore import FLStore
from flstore.metadata_window import PLACE
from flstore.testing.services import ServiceMissingError, redis_server
from flstore.types import Key, Kind
from flstore.workloads import make
from flstore.workloads.base import Inputs, Scope, Workload

CLIENTS, ROUNDS = 10, 12
GOAL_MS = 0.1
PEER = "Redis: GET or MGET over a unix socket, JSON, the same compute()"
ASKED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("hyperparameters of a round", "hyperparameters", {"last": 1}),
    ("hyperparameters of ten rounds", "hyperparameters", {"last": 10}),
    ("scheduling by Oort, a round", "scheduling_performance", {"by": "oort", "last": 1}),
)


def run(quick: bool = False) -> list[Row]:
    """The same requests again and again, then each after something has arrived."""
    repetitions = 20 if quick else 2000
    with tempfile.TemporaryDirectory() as root, FLStore.local(functions=1, root=root, memory="256MiB") as store:
        for round in range(1, ROUNDS + 1):
            store.ingest(round, {c: {"w": np.zeros(100, "f4")} for c in rows(round)}, metadata=rows(round))
        store.flush()
        with redis_documents(store) as get:
            found = [row for asked in ASKED for row in _compare(store, get, *asked, repetitions)]
        return found + [_first(store, *asked, min(repetitions, 100)) for asked in ASKED]


def rows(round: int) -> dict[str, dict[str, Any]]:
    """What ten clients say of a round."""
    rng = np.random.default_rng(round)
    return {
        f"client-{i}": {
            "lr": 0.1 / round, "batch_size": 32, "epochs": 1, "examples": int(rng.integers(400, 700)),
            "loss": float(rng.random()), "accuracy": float(rng.random()), "duration_s": float(rng.random()),
        }
        for i in range(CLIENTS)
    }  # fmt: skip


@contextmanager
def redis_documents(store: FLStore) -> Iterator[Callable[[list[int]], list[dict[str, Any]]] | None]:
    """A real Redis with the metadata of each round as one document, and how to read some; None where there is none."""
    try:
        with tempfile.TemporaryDirectory() as folder, redis_server(folder) as server:
            import redis

            client = redis.Redis.from_url(server.url)
            for round in range(1, ROUNDS + 1):
                found = store._objects.get_metadata(store.job, round)[0]
                client.set(f"metadata:{round}", json.dumps(found))
            yield lambda rounds: [json.loads(document) for document in client.mget([f"metadata:{r}" for r in rounds])]
            client.close()
    except (ServiceMissingError, ImportError):
        yield None


def _compare(store: FLStore, get: Any, title: str, name: str, params: dict[str, Any], repetitions: int) -> list[Row]:
    workload = make(name, **params)
    wanted = list(range(ROUNDS - params["last"] + 1, ROUNDS + 1))

    def ours() -> Any:
        return store.request(name, round=ROUNDS, **params)

    def theirs() -> Any:
        return workload.compute(_inputs(store.job, workload, wanted, get(wanted)))

    ways = {"request": ours, **({"redis": theirs} if get is not None else {})}
    spreads = interleaved(ways, repetitions, warm_up=20)
    answer = ours()
    if answer.record.functions != [PLACE] or answer.record.misses:
        raise RuntimeError(f"it was not answered in the process of the store: {answer.record}")
    if get is not None and theirs().frame().to_json() != answer.value.frame().to_json():
        raise RuntimeError("Redis and FLStore do not answer alike")
    own, peer = spreads["request"], spreads.get("redis")
    met = own.median * 1e3 < GOAL_MS
    extra = {} if params["last"] > 1 or name != "hyperparameters" else {"goal": f"under {GOAL_MS:g} ms", "met": met}
    return [
        _row(f"metadata: {title}", own, peer, **extra),
        *([timed(f"metadata: {title}, from Redis", peer)] if peer is not None else []),
    ]


def _row(title: str, own: Spread, peer: Spread | None, **goal: Any) -> Row:
    against = {} if peer is None else {"peer": PEER, "ratio": own.median / peer.median}
    quartiles = own.low * 1e3, own.high * 1e3
    return Row(title, own.median * 1e3, "ms", quartiles=quartiles, repetitions=own.repetitions, **against, **goal)


def _first(store: FLStore, title: str, name: str, params: dict[str, Any], repetitions: int) -> Row:
    """The request that follows when a client's metadata has changed, so that nothing is known of its keys."""
    took = []
    for i in range(repetitions):
        store.ingest(ROUNDS, {}, metadata={"client-0": {"turn": i}})
        store.flush()
        began = time.perf_counter()
        store.request(name, round=ROUNDS, **params)
        took.append(time.perf_counter() - began)
    return timed(f"metadata: {title}, the first after an ingest", Spread.of(took))


def _inputs(job: str, workload: Workload, rounds: list[int], documents: list[dict[str, Any]]) -> Inputs:
    found = zip(rounds, documents, strict=True)
    data = {Key(job, Kind.METADATA, r, c): row for r, document in found for c, row in document.items()}
    return Inputs(Scope(job, round=rounds[-1]), data)
