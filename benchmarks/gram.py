"""The Gram matrix of a round: what most P2 workloads cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import rounds
from benchmarks.rows import Row, timed
from benchmarks.timing import interleaved
from flstore.codec import ClientUpdate
from flstore.workloads._gram import gram

CHUNK = 1 << 16


def run(quick: bool = False) -> list[Row]:
    """Against the sum of the same numbers (the floor), one contiguous matrix product, and torch by chunk."""
    import torch

    name, state = rounds.model(quick)
    here = rounds.inputs(rounds.perturbed(state), state)
    updates = list(here.updates(1).values())
    start = here.aggregate(0)
    views = [view for update in updates for view in update.runs("float32")]
    matrix = np.stack([np.concatenate(update.runs("float32")) for update in updates])
    torch_gram, threads = _torch_gram(updates), torch.get_num_threads()
    spreads = interleaved(
        {
            "gram": lambda: gram(updates),
            "delta": lambda: gram(updates, start),
            "contiguous": lambda: matrix @ matrix.T,
            "torch": lambda: torch_gram(threads),
            "torch_alone": lambda: torch_gram(1),
            "sum": lambda: [view.sum() for view in views],
        },
        repetitions=3 if quick else 15,
    )
    torch.set_num_threads(threads)
    exact = matrix.astype(np.float64)
    error = float(np.abs(gram(updates) / (exact @ exact.T) - 1).max())
    sum_, title = "NumPy's sum of the same arrays, one thread", f"gram {name}"
    # Threads of torch wait for each other: where other programs run too, one may be faster than all.
    best = min(spreads["torch"], spreads["torch_alone"], key=lambda spread: spread.median)
    return [
        timed(
            f"{title}: ten weights", spreads["gram"], peer=sum_, against=spreads["sum"],
            note=f"largest relative error {error:.0e}",
        ),
        timed(f"{title}: ten deltas", spreads["delta"], peer=sum_, against=spreads["sum"]),
        timed(
            f"{title}: ten weights, against one product", spreads["gram"], peer="contiguous M @ M.T",
            against=spreads["contiguous"],
        ),
        timed(
            f"{title}: ten weights, against torch", spreads["gram"], peer=f"torch stack and @ by chunks of {CHUNK}",
            against=best, at_most=1.0, note="the faster of one thread and all",
        ),
        timed(f"{title}: the sum", spreads["sum"], note="the floor: every number read once"),
        timed(f"{title}: contiguous M @ M.T", spreads["contiguous"], note="float32 sums; making M is not counted"),
        timed(f"{title}: torch by chunk, {threads} threads", spreads["torch"]),
        timed(f"{title}: torch by chunk, one thread", spreads["torch_alone"]),
    ]  # fmt: skip


def _torch_gram(updates: list[ClientUpdate]) -> Any:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # read-only memory, which nothing here writes to
        runs = [[torch.from_numpy(view) for view in update.runs("float32")] for update in updates]

    def products(threads: int) -> Any:
        torch.set_num_threads(threads)
        total = torch.zeros(len(runs), len(runs), dtype=torch.float64)
        for pieces in zip(*runs, strict=True):
            for at in range(0, len(pieces[0]), CHUNK):
                block = torch.stack([piece[at : at + CHUNK] for piece in pieces])
                total += (block @ block.T).double()
        return total

    return products
