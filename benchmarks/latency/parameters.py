"""The parameters of the comparison, from ``parameters.yaml``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import yaml

PATH = Path(__file__).with_name("parameters.yaml")


@dataclass(frozen=True)
class Parameters:
    """See ``parameters.yaml``; a key too many or too few is an error."""

    clients_per_round: int
    clients: int
    max_batches: int
    seed: int
    rounds: dict[str, int]
    function_memory: dict[str, str]
    functions: int
    scratch_share: float
    asks: int
    asks_of: dict[str, int]
    again_below_s: float
    workloads: dict[str, dict[str, Any]]
    beside: dict[str, dict[str, Any]]
    evaluations: list[str]
    systems: list[str]
    fairness: list[str]
    goals: dict[str, float]
    confidence: float
    resamples: int

    @classmethod
    def read(cls, quick: bool = False) -> Self:
        """The file; for a quick try, two rounds of the smallest model and one request a round."""
        found = cls(**yaml.safe_load(PATH.read_text(encoding="utf-8")))
        if quick:
            model = "mobilenet_v3_small"
            found = replace(found, rounds={model: 2}, asks=1, clients_per_round=5, max_batches=1, resamples=100)
        return found

    def asks_about(self, model: str) -> int:
        """Requests about each round of a model."""
        return self.asks_of.get(model, self.asks)
