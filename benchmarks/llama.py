"""Inference of Llama 3.2 1B (section 5.4 of the paper): one aggregated model, the prompts of ten clients.

The architecture at its real size, 1.24 B parameters in bfloat16, with random weights: how long it takes does not depend
on their values. Cached by FLStore, and fetched for each request by ObjStore-Agg from an S3 server on loopback.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.big import _peak_bytes
from benchmarks.rows import Row, timed
from benchmarks.timing import Spread, interleaved
from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.federated import llama
from flstore.results import Result
from flstore.testing.services import rclone_s3

CLIENTS, PROMPT_TOKENS, NEW_TOKENS = 10, 16, 8
FUNCTIONS, FUNCTION_BYTES = 2, 4 << 30
WEIGHTS = "FLSTORE_LLAMA_WEIGHTS"
"""Set in the environment to the folder of published safetensors files, to use these instead of random weights."""
FLSTORE, PER_UPDATE, PER_LAYER = "FLStore, cached", "ObjStore-Agg per-update", "ObjStore-Agg per-layer"


def run(quick: bool = False) -> list[Row]:
    """The same request to the three, in turn."""
    architecture, model = (llama.TINY, "tiny") if quick else (llama.LLAMA_1B, "llama_1b")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data = Path(folder) / "prompts.npz"
        np.savez(data, x=llama.prompts(CLIENTS, PROMPT_TOKENS, NEW_TOKENS, architecture.vocabulary))
        ask = {"workload": "inference", "round": 1, "model": f"flstore.federated.llama:{model}", "data": str(data)}
        server = stack.enter_context(rclone_s3(folder))
        server.create_bucket("llama")
        options: dict[str, Any] = {"storage_options": server.storage_options, "write_buffer": 3 << 30}
        store = stack.enter_context(
            FLStore.local(functions=FUNCTIONS, memory=FUNCTION_BYTES, root="s3://llama/whole", **options)
        )
        layered = stack.enter_context(ObjStoreAgg("s3://llama/layers", layout="per-layer", **options))
        size_bytes = _fill(architecture, store, layered)
        whole = stack.enter_context(ObjStoreAgg("s3://llama/whole", **options))
        first = store.request(**ask)
        answers: dict[str, list[Result]] = {FLSTORE: [], PER_UPDATE: [], PER_LAYER: []}
        systems = {FLSTORE: store, PER_UPDATE: whole, PER_LAYER: layered}

        def way(name: str) -> Callable[[], None]:
            return lambda: answers[name].append(systems[name].request(**ask))

        spreads = interleaved({name: way(name) for name in systems}, 2 if quick else 3)
        peaks = {f.name: _peak_bytes(f.pid) for f in store._pool.functions.values()}
        return _rows(size_bytes, first, answers, spreads, {**peaks, "the aggregator": _peak_bytes(os.getpid())})


def _fill(architecture: llama.Architecture, *systems: Any) -> int:
    """The model as the aggregate of a round, in all of them; returns its bytes."""
    weights = llama.weights(architecture, os.environ.get(WEIGHTS))
    for system in systems:
        system.ingest(1, {}, aggregate=weights)
        system.flush()
    return sum(2 * tensor.numel() for tensor in weights.values())


def _rows(
    size_bytes: int, first: Result, answers: dict[str, list[Result]], spreads: dict[str, Spread], peaks: dict[str, int]
) -> list[Row]:
    if any(answer.record.misses or answer.record.late_hits for answer in answers[FLSTORE]):
        raise RuntimeError(f"the model was not cached: {answers[FLSTORE][-1].record}")
    for name, given in answers.items():
        if any((answer.value.outputs != first.value.outputs).any() for answer in given):
            raise RuntimeError(f"{name} does not generate what FLStore does")
    title = f"llama {size_bytes / 1e9:.3g} GB, {CLIENTS} clients, {PROMPT_TOKENS} + {NEW_TOKENS} tokens"
    rows = []
    for peer in (PER_UPDATE, PER_LAYER):
        less = 100 * (1 - spreads[FLSTORE].median / spreads[peer].median)
        rows.append(timed(f"{title}: {peer}", spreads[peer]))
        rows.append(Row(f"{title}: FLStore below {peer}", less, "%", note="of the median latency"))
    rows.insert(0, timed(f"{title}: {FLSTORE}", spreads[FLSTORE], peer=PER_UPDATE, against=spreads[PER_UPDATE]))
    for name, given in answers.items():
        for part in ("fetch_s", "compute_s"):
            took = Spread.of([getattr(answer.record, part) for answer in given[1:]])
            rows.append(timed(f"{title}: {name}, {part.removesuffix('_s')}", took))
    rows.append(Row(f"{title}: the first request", first.record.latency_s * 1e3, "ms", note="imports torch"))
    for name, peak in peaks.items():
        rows.append(Row(f"{title}: most memory of {name}", peak / 1e9, "GB", note="VmHWM; the aggregator also ingests"))
    return rows
