"""A request for a cached round against the same computation in the caller's own process.

What FLStore adds to a computation that it runs where the data is: one message to the function and back. And requests
about a round whose inner products were derived before anybody asked.
"""

from __future__ import annotations

import dataclasses
import tempfile
from typing import Any

from benchmarks import rounds
from benchmarks.rows import Row, timed
from benchmarks.threads import Threads, blas_threads
from benchmarks.timing import Spread, interleaved
from flstore import FLStore
from flstore.baselines import LocalFiles
from flstore.results import Result
from flstore.workloads.cosine_similarity import CosineSimilarity

DERIVED_MS = 10.0
DERIVED_FASTER = 10
EXTRA_MS = 10.0
"""What a request may take beyond the computation."""


def run(quick: bool = False) -> list[Row]:
    """Cosine similarities of ten clients, of deltas and of whole weights."""
    name, state = rounds.model(quick)
    updates = rounds.perturbed(state)
    repetitions, rows = 3 if quick else 30, []
    for derive in (False, True):
        options = {"functions": 2, "job": rounds.JOB, "derive": derive}
        with tempfile.TemporaryDirectory() as root, FLStore.local(root=root, **options) as store:
            store.ingest(0, {}, aggregate=rounds.averaged(state))
            store.ingest(1, updates)
            store.request("cosine_similarity", round=1)
            store.flush()
            if derive:
                rows += _derived(store, name, repetitions)
                continue
            here = rounds.inputs(updates, state)
            rows += _threads(store)
            for of in ("delta", "model"):
                rows += _compare(store, here, name, of, repetitions)
    return rows


def _derived(store: FLStore, model: str, repetitions: int) -> list[Row]:
    """Requests whose inner products were computed before they were asked for, and those of files on this machine."""
    rows = []
    with LocalFiles(store.root, job=store.job) as files:
        for workload in ("cosine_similarity", "malicious_filtering", "clustering"):
            answers: list[Result] = []
            ask = {
                "derived": lambda w=workload, a=answers: a.append(store.request(w, round=1)),
                "files": lambda w=workload: files.request(w, round=1),
            }
            took = interleaved(ask, repetitions, warm_up=2)
            if not all(answer.record.derived for answer in answers):
                raise RuntimeError(
                    f"{workload} was not derived before it was asked for; the figure would be of another way"
                )
            row = timed(
                f"cached_cosine {model}: {workload}, derived", took["derived"], peer="LocalFiles", against=took["files"]
            )
            met = row.value < DERIVED_MS and DERIVED_FASTER * took["derived"].median <= took["files"].median
            goal = f"under {DERIVED_MS:g} ms, at least {DERIVED_FASTER} x faster than LocalFiles"
            rows.append(dataclasses.replace(row, goal=goal, met=met))
    return rows


def _compare(store: FLStore, here: Any, model: str, of: str, repetitions: int) -> list[Row]:
    workload = CosineSimilarity(of=of)
    answers: list[Result] = []
    spreads = interleaved(
        {
            "request": lambda: answers.append(store.request("cosine_similarity", round=1, of=of)),
            "here": lambda: workload.compute(here),
        },
        repetitions,
        warm_up=2,
    )
    counted = answers[-repetitions:]
    if any(answer.record.misses or answer.record.late_hits for answer in counted):
        raise RuntimeError(f"the round was not cached: {counted[0]!r}; the figure would be of something else")
    request, own = spreads["request"], spreads["here"]
    extra = (request.median - own.median) * 1e3
    peer = "the same compute() in this process"
    title = f"cached_cosine {model} of={of}"
    return [
        timed(f"{title}: request", request, peer=peer, against=own),
        timed(f"{title}: in this process", own),
        Row(
            f"{title}: request beyond the computation", extra, "ms",
            goal=f"at most {EXTRA_MS:g} ms", met=extra <= EXTRA_MS,
            note="difference of the medians", repetitions=repetitions,
        ),
        *(_part(title, counted, part) for part in ("fetch_s", "queue_s", "compute_s")),
    ]  # fmt: skip


def _part(title: str, answers: list[Result], part: str) -> Row:
    return timed(
        f"{title}: {part.removesuffix('_s')} of the request", Spread.of([getattr(a.record, part) for a in answers])
    )


def _threads(store: FLStore) -> list[Row]:
    """Both sides must compute with equal means, or the comparison is of thread pools."""
    there, here = store.request(Threads()).value.blas, blas_threads()
    return [
        Row(
            "cached_cosine: BLAS threads of a function", there, "threads", peer="this process", ratio=there / here,
            goal="as many as this process", met=there == here,
        )
    ]  # fmt: skip
