"""Evaluating the ten updates of a round on held-out data: what six of ten workloads spend their time on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import rounds
from benchmarks.latency.floors import flops_of
from benchmarks.latency.task import held_out, task
from benchmarks.rows import Row, timed
from benchmarks.timing import interleaved
from flstore.federated.models import MODELS, build, state_arrays
from flstore.workloads._evaluate import Evaluator

ROUNDING = 1e-4
"""How far outputs may be from those of plain torch, in units of the largest of them."""
_SQUARE = 2048
_REPETITIONS = {"efficientnet_v2_s": 3, "resnet18": 7, "mobilenet_v3_small": 7, "swin_v2_t": 3}
"""Plain torch takes half a minute for ten Swins of images this small."""


def run(quick: bool = False) -> list[Row]:
    """Against plain torch, and against the multiplications alone at the speed of a large matrix product."""
    return [row for name in (("mobilenet_v3_small",) if quick else MODELS) for row in _measure(name, quick)]


def _measure(name: str, quick: bool) -> list[Row]:
    import torch

    clients = rounds.perturbed(state_arrays(build(name)), 2 if quick else rounds.CLIENTS)
    updates = list(rounds.encoded(clients).values())
    ours = _evaluator(name)
    brief = _evaluator(name, "bfloat16")
    plain = _plain(name, updates)
    found = ours.outputs_of(updates)
    error, agreement = _compare(found, plain(), exact=True)
    shorter = _compare(brief.outputs_of(updates), found, exact=False)[1]
    square = torch.randn(_SQUARE, _SQUARE)
    product = torch.empty_like(square)
    ways: dict[str, Callable[[], Any]] = {
        "plain": plain, "ours": partial(ours.outputs_of, updates), "brief": partial(brief.outputs_of, updates),
        "one": partial(ours.outputs, updates[0]), "product": lambda: torch.mm(square, square, out=product),
    }  # fmt: skip
    took = interleaved(ways, 2 if quick else _REPETITIONS[name])
    flops = flops_of(name) * len(updates)
    # The highest rate that was seen: what disturbs the machine must not lower the floor.
    floor = flops / (2 * _SQUARE**3 / took["product"].low)
    title, count = f"evaluate {name}", len(updates)
    torch_, agree = "plain torch, one module, load_state_dict", f"labels agree: {agreement:.2%}"
    return [
        timed(
            f"{title}: {count} updates", took["ours"], peer=torch_, against=took["plain"],
            note=f"{agree}; outputs within {error:.0e} of the largest",
        ),
        timed(
            f"{title}: {count} updates, against the floor", took["ours"], against=floor,
            peer=f"{flops / 1e9:.0f} GFLOP at the rate of a {_SQUARE} x {_SQUARE} product",
            note="without the products with padding",
        ),
        timed(f"{title}: one update", took["one"]),
        timed(f"{title}: plain torch", took["plain"]),
        timed(
            f"{title}: bfloat16", took["brief"], peer="float32", against=took["ours"],
            note=f"approximate; labels agree: {shorter:.2%}",
        ),
    ]  # fmt: skip


def _evaluator(name: str, precision: str | None = None) -> Evaluator:
    judged = task(name)
    return Evaluator("benchmark", judged.model, judged.data, precision)


def _plain(name: str, updates: Any) -> Callable[[], list[NDArray[Any]]]:
    import torch

    module = build(name).eval()
    x = torch.from_numpy(held_out()[0].copy())

    def outputs() -> list[NDArray[Any]]:
        found = []
        with torch.inference_mode():
            for update in updates:
                module.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in update.items()})
                found.append(module(x).numpy())
        return found

    return outputs


def _compare(found: list[NDArray[Any]], expected: list[NDArray[Any]], exact: bool) -> tuple[float, float]:
    """The largest difference in units of the largest output, and the share of examples with equal labels."""
    a, b = np.stack(found), np.stack(expected)
    error, agreement = float(np.abs(a - b).max() / np.abs(b).max()), float((a.argmax(-1) == b.argmax(-1)).mean())
    if exact and (error > ROUNDING or agreement < 1):
        raise RuntimeError(f"outputs differ by {error:.1e}, labels agree in {agreement:.2%}: not the same computation")
    return error, agreement
