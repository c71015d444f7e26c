"""How many threads linear algebra uses where a request runs: asked by a request of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from flstore.types import Key, PolicyClass
from flstore.workloads.base import Catalogue, Inputs, Scope, Workload


def blas_threads() -> int:
    """Most threads of any BLAS in this process, after NumPy has been loaded."""
    import numpy  # noqa: F401  (brings its BLAS)
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

    return max((int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)


@dataclass(frozen=True)
class ThreadsResult:
    """BLAS threads of the process that answered."""

    blas: int


@dataclass(frozen=True)
class Threads(Workload):
    """Reads nothing and answers with what it finds in the process of the function (class P2)."""

    name: ClassVar[str] = "benchmark_threads"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = ThreadsResult

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        """Nothing: any function will do."""
        return []

    def compute(self, inputs: Inputs) -> Any:
        """Look at the pools of this process."""
        return ThreadsResult(blas_threads())
