"""A workload that asks a function which models it has ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from flstore.types import Key, PolicyClass
from flstore.workloads import _evaluate
from flstore.workloads.base import Catalogue, Inputs, Scope, Workload


@dataclass(frozen=True)
class ReadyResult:
    """Import paths of models, and the process that has them."""

    models: list[str]


@dataclass(frozen=True)
class Ready(Workload):
    """Reads nothing and answers with what it finds in the process of the function (class P2)."""

    name: ClassVar[str] = "test_ready"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = ReadyResult

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        """Nothing: any function will do."""
        return []

    def compute(self, inputs: Inputs) -> Any:
        """Look among the evaluators that are kept."""
        return ReadyResult([key[0] for key in _evaluate._kept])
