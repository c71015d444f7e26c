"""Data that fits no single function: a round on two, a model on three, against the same computation in one process.

The bytes that cross the network are counted, and the memory that the functions really took is read from the system.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import big_model, rounds
from benchmarks.rows import Row, timed
from benchmarks.timing import interleaved
from flstore import FLStore
from flstore.results import Result
from flstore.workloads._stages import as_tensor
from flstore.workloads.cosine_similarity import CosineSimilarity

FEW_PERCENT = 1.0
"""Of the data, that may cross the network."""
PEER = "the same computation in this process"


def run(quick: bool = False) -> list[Row]:
    """Ten updates on two functions, then a model on three."""
    return _round(quick) + _model(quick)


def _round(quick: bool) -> list[Row]:
    name, state = rounds.model(quick)
    updates = rounds.perturbed(state)
    data_bytes = sum(array.nbytes for update in updates.values() for array in update.values())
    memory = int(0.65 * data_bytes / 0.75)  # the cache is three quarters of it: each holds two thirds of the round
    title = f"big: gram of ten {name} on two functions"
    with (
        tempfile.TemporaryDirectory() as root,
        FLStore.local(functions=2, memory=memory, root=root, job=rounds.JOB) as store,
    ):
        store.ingest(0, {}, aggregate=state)
        store.ingest(1, updates)
        here, workload = rounds.inputs(updates, state), CosineSimilarity()
        del updates
        store.request("cosine_similarity", round=1)
        store.flush()
        answers: list[Result] = []
        spreads = interleaved(
            {
                "request": lambda: answers.append(store.request("cosine_similarity", round=1)),
                "here": lambda: workload.compute(here),
            },
            3 if quick else 20,
            warm_up=2,
        )
    last = answers[-1]
    if last.record.misses or len(last.record.functions) != 2:
        raise RuntimeError(f"the round was not held by two functions: {last!r}")
    expected = workload.compute(here)
    np.testing.assert_allclose(last.value.norms, expected.norms, rtol=1e-6)
    np.testing.assert_allclose(last.value.similarity, expected.similarity, atol=1e-6)
    percent = 100 * last.record.bytes_moved / data_bytes
    return [
        timed(title, spreads["request"], peer=PEER, against=spreads["here"]),
        _crossed(title, percent, f"{last.record.bytes_moved} of {data_bytes} bytes"),
    ]


def _model(quick: bool) -> list[Row]:
    if quick:
        os.environ[big_model.QUICK] = "1"
    try:
        return _pipeline(quick)
    finally:
        os.environ.pop(big_model.QUICK, None)


def _pipeline(quick: bool) -> list[Row]:
    import torch

    state = big_model.weights()
    data_bytes = sum(array.nbytes for array in state.values())
    memory = int(1.2e9 * data_bytes / 3.005e9)
    title = f"big: inference of {data_bytes / 1e9:.3g} GB on three functions of {memory / 1e9:.3g} GB"
    x, _ = big_model.data()
    with torch.device("meta"):
        model = big_model.build().eval()
    model.load_state_dict({name: as_tensor(array) for name, array in state.items()}, assign=True)

    def here() -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(x)).numpy()

    params = {"model": "benchmarks.big_model:build", "data": "benchmarks.big_model:data", "batch_size": len(x)}
    with (
        tempfile.TemporaryDirectory() as root,
        FLStore.local(functions=3, memory=memory, root=root, job=rounds.JOB, scratch_share=0.1) as store,
    ):
        store.ingest(1, {}, aggregate=state)
        store.flush()
        answers: list[Result] = []
        spreads = interleaved(
            {"request": lambda: answers.append(store.request("inference", round=1, **params)), "here": here},
            2 if quick else 5,
        )
        peaks = {f.name: _peak_bytes(f.pid) for f in store._pool.functions.values()}
    last = answers[-1]
    if last.record.misses or len(set(last.record.functions)) != 3:
        raise RuntimeError(f"the model was not held by three functions: {last!r}")
    np.testing.assert_allclose(last.value.outputs, here(), rtol=1e-5, atol=1e-6)
    percent = 100 * last.record.bytes_moved / data_bytes
    return [
        timed(title, spreads["request"], peer=PEER, against=spreads["here"]),
        Row(
            f"{title}: crossed the network",
            percent,
            "% of the data",
            note=f"{last.record.bytes_moved} of {data_bytes} bytes: what came out of two stages, to here and on",
        ),
        *(
            Row(f"{title}: most memory of {name}", peak / 1e9, "GB", note="VmHWM, with Python and torch")
            for name, peak in sorted(peaks.items())
        ),
    ]


def _crossed(title: str, percent: float, note: str) -> Row:
    goal = f"under {FEW_PERCENT:g} %"
    return Row(
        f"{title}: crossed the network", percent, "% of the data", goal=goal, met=percent < FEW_PERCENT, note=note
    )


def _peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"the system does not say how much memory process {pid} took")
