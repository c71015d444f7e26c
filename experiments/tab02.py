"""Table 2: inference of Llama 3.2 1B on a round, with FLStore and from an object store; measured, and modelled.

The architecture at its real size or cut down, with random weights (how long it takes does not depend on their values):
the prompts of ten clients, which one aggregated model continues. All systems read the same S3 server on loopback.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flstore.cost import price
from flstore.cost.paper import PER_LAYER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARCHITECTURES = {"llama_1b": "LLAMA_1B", "cut": "CUT", "tiny": "TINY"}
"""Import names in :mod:`flstore.federated.llama`: the function that builds a model, and its sizes."""
OURS, STRONG = "FLStore", "ObjStore-Agg"
LINKS = {OURS: "s3-same-region", STRONG: "s3-same-region", PER_LAYER: "paper-minio-hdd"}
PAPER_LATENCY = {OURS: 1.2, PER_LAYER: 26.56}
PAPER_COST = {OURS: 0.0003, PER_LAYER: 0.0068}


def measure(
    architecture: str,
    clients: int,
    prompt_tokens: int,
    new_tokens: int,
    repetitions: int,
    functions: int,
    memory_gib: int,
) -> pd.DataFrame:
    """The same request to FLStore, which holds the model, and to both object-store aggregators, in turns.

    Returns
    -------
    DataFrame
        One row a request and system: system, repetition, architecture, parameters, model_bytes, of_1b (share of the
        real model's bytes), latency_s, fetch_s, compute_s, bytes_moved, operations, equal (the same tokens as
        FLStore's first), link, modelled_latency_s and modelled_cost_usd.
    """
    from flstore import FLStore
    from flstore.baselines import ObjStoreAgg
    from flstore.federated import llama
    from flstore.testing.services import rclone_s3

    sizes: llama.Architecture = getattr(llama, ARCHITECTURES[architecture])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data = Path(folder) / "prompts.npz"
        np.savez(data, x=llama.prompts(clients, prompt_tokens, new_tokens, sizes.vocabulary))
        server = stack.enter_context(rclone_s3(folder))
        server.create_bucket("llama")
        options: dict[str, Any] = {"storage_options": server.storage_options, "write_buffer": memory_gib << 30}
        local: dict[str, Any] = {"functions": functions, "memory": memory_gib << 30, "derive": False}
        ours = stack.enter_context(FLStore.local(root="s3://llama/whole", **local, **options))
        layers = stack.enter_context(ObjStoreAgg("s3://llama/layers", layout="per-layer", **options))
        weights = llama.weights(sizes)
        for each in (ours, layers):
            each.ingest(1, {}, aggregate=weights)
            each.flush()
        del weights
        whole = stack.enter_context(ObjStoreAgg("s3://llama/whole", **options))
        systems: dict[str, Any] = {OURS: ours, STRONG: whole, PER_LAYER: layers}
        ask = {"round": 1, "model": f"flstore.federated.llama:{architecture}", "data": str(data)}
        first = None
        for repetition in range(repetitions + 1):  # the first of each imports torch, and does not count
            for name, system in systems.items():
                began = time.perf_counter()
                result = system.request("inference", **ask)
                took = time.perf_counter() - began
                first = result.value.outputs if first is None else first
                equal = bool((result.value.outputs == first).all())
                fields = ("fetch_s", "compute_s", "bytes_moved", "operations", "memory_bytes")
                record = {field: getattr(result.record, field) for field in fields}
                rows.append({"system": name, "repetition": repetition, "latency_s": took, **record, "equal": equal})
    count = sizes.parameters
    about = {"architecture": architecture, "parameters": count, "model_bytes": 2 * count}
    share = count / llama.LLAMA_1B.parameters
    return _modelled(pd.DataFrame([{**row, **about, "of_1b": share} for row in rows]))


def _modelled(data: pd.DataFrame) -> pd.DataFrame:
    """The requests that count, with what they would take and cost over the links of the cloud."""
    counted = data[data["repetition"] > 0]
    priced = [
        price(part, system=str(name), link=LINKS[str(name)]) for name, part in counted.groupby("system", sort=False)
    ]
    found = pd.concat(priced)[["link", "modelled_latency_s", "modelled_cost_usd"]]
    return counted.join(found).drop(columns="memory_bytes")


def table(data: pd.DataFrame) -> pd.DataFrame:
    """Medians by system, measured and modelled."""
    columns = ["latency_s", "fetch_s", "compute_s", "modelled_latency_s", "modelled_cost_usd"]
    return data.groupby("system", sort=False)[columns].median()


def figure(data: pd.DataFrame) -> Figure:
    """Measured seconds, modelled seconds and modelled dollars by system, with the paper's values."""
    import matplotlib.pyplot as plt
    from style import COLOURS, PAPER

    found = table(data)
    drawn, panels = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    titles = {
        "latency_s": ("measured (loopback S3)", "latency of a request, s", {}),
        "modelled_latency_s": ("modelled (links by name)", "latency of a request, s", PAPER_LATENCY),
        "modelled_cost_usd": ("modelled (prices by name)", "cost of a request, USD", PAPER_COST),
    }
    for axes, (column, (title, label, printed)) in zip(panels, titles.items(), strict=True):
        axes.bar(found.index, found[column], color=[COLOURS[n.removesuffix(" per-layer")] for n in found.index])
        if printed:
            axes.plot(list(printed), list(printed.values()), **PAPER)
            axes.legend()
        axes.set(title=title, ylabel=label, yscale="log")
        axes.set_xticks(range(len(found)), list(found.index), rotation=20, ha="right")
    share = float(data["of_1b"].iloc[0])
    what = "Llama 3.2 1B" if share == 1 else f"a Llama cut down to {share:.1%} of Llama 3.2 1B"
    drawn.suptitle(f"Table 2: inference of {what}, {data['model_bytes'].iloc[0] / 1e9:.2g} GB")
    return drawn
