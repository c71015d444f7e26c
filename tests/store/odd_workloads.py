"""Workloads that misbehave, importable by the functions."""

from __future__ import annotations

import builtins
import ctypes
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from flstore.types import Key, Kind, PolicyClass
from flstore.workloads.base import Additive, Catalogue, Inputs, Scope, Workload, require_round


@dataclass(frozen=True)
class Done:
    clients: list[str]


@dataclass(frozen=True)
class HoldsTheInterpreter(Workload):
    """Computes without ever letting another thread of its process run, as a careless C extension does."""

    name: ClassVar[str] = "holds-the-interpreter"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = Done
    seconds: int = 3

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        round = require_round(self.name, scope)
        return [Key(scope.job, Kind.UPDATE, round, c) for c in catalogue.clients(round)]

    def compute(self, inputs: Inputs) -> Done:
        ctypes.PyDLL(None).sleep(self.seconds)
        return Done(sorted(str(k.client) for k in inputs.data))


@dataclass(frozen=True)
class WaitsForFile(HoldsTheInterpreter):
    """Computes until a file appears: a long request whose end a test decides."""

    name: ClassVar[str] = "waits-for-file"
    path: str = ""

    def compute(self, inputs: Inputs) -> Done:
        waiting: Any = threading.Event()
        while not Path(self.path).exists():
            waiting.wait(0.02)
        return Done(sorted(str(k.client) for k in inputs.data))


@dataclass(frozen=True)
class Raises(HoldsTheInterpreter):
    """Ends as a careless script does."""

    name: ClassVar[str] = "raises"
    what: str = "SystemExit"

    def compute(self, inputs: Inputs) -> Done:
        raise getattr(builtins, self.what)("enough")


@dataclass(frozen=True)
class Squares:
    squares: list[float]


@dataclass(frozen=True)
class SquaresOfElements(Additive):
    """The squared norm of every update: a sum over elements, so ranges of them are enough."""

    name: ClassVar[str] = "squares-of-elements"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = Squares

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        round = require_round(self.name, scope)
        return [Key(scope.job, Kind.UPDATE, round, c) for c in catalogue.clients(round)]

    def partial(self, inputs: Inputs) -> dict[str, Any]:
        updates = inputs.updates(require_round(self.name, inputs.scope)).values()
        return {"squares": np.array([sum(float((t.astype("f8") ** 2).sum()) for t in u.values()) for u in updates])}

    def finish(self, scope: Scope, total: Mapping[str, Any]) -> Squares:
        return Squares(total["squares"].tolist())
