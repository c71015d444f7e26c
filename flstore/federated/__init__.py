"""Where client updates come from: observers of federated-learning frameworks, and a small real Flower app.

Importing this package imports neither torch nor Flower; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flstore.errors import OptionalDependencyError

if TYPE_CHECKING:
    from flstore.federated.app import RunHistory, run
    from flstore.federated.client import client_app
    from flstore.federated.data import Digits, digits, dirichlet_partition
    from flstore.federated.feeder import Feeder
    from flstore.federated.flower import observe
    from flstore.federated.flower_app import run_app, simulate
    from flstore.federated.grid import LocalGrid
    from flstore.federated.identity import identify
    from flstore.federated.models import MODELS, build, load_arrays, state_arrays
    from flstore.federated.nvflare import FLStoreObserver
    from flstore.federated.restoring import resume
    from flstore.federated.recorder import record
    from flstore.federated.recording import Recording

__all__ = [
    "MODELS",
    "Digits",
    "FLStoreObserver",
    "Feeder",
    "LocalGrid",
    "Recording",
    "RunHistory",
    "build",
    "client_app",
    "digits",
    "dirichlet_partition",
    "identify",
    "load_arrays",
    "observe",
    "resume",
    "record",
    "run",
    "run_app",
    "simulate",
    "state_arrays",
]

_MODULE_OF = {
    "MODELS": "models",
    "Digits": "data",
    "FLStoreObserver": "nvflare",
    "Feeder": "feeder",
    "LocalGrid": "grid",
    "Recording": "recording",
    "RunHistory": "app",
    "build": "models",
    "client_app": "client",
    "digits": "data",
    "dirichlet_partition": "data",
    "identify": "identity",
    "resume": "restoring",
    "load_arrays": "models",
    "observe": "flower",
    "record": "recorder",
    "run": "app",
    "run_app": "flower_app",
    "simulate": "flower_app",
    "state_arrays": "models",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "flwr":
            raise
        raise OptionalDependencyError.of("flwr", "flower", f"flstore.federated.{name}") from error


def __dir__() -> list[str]:
    return sorted(__all__)
