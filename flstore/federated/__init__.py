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
    from flstore.federated.data import Images, digits, images
    from flstore.federated.faults import Fault
    from flstore.federated.feeder import Feeder
    from flstore.federated.flower import observe
    from flstore.federated.flower_app import run_app, simulate
    from flstore.federated.grid import LocalGrid
    from flstore.federated.identity import identify
    from flstore.federated.models import MODELS, build, load_arrays, state_arrays
    from flstore.federated.nvflare import FLStoreObserver
    from flstore.federated.recorder import record
    from flstore.federated.recording import Recording
    from flstore.federated.restoring import resume
    from flstore.federated.rounds import RoundData
    from flstore.federated.settings import SETTINGS, Settings
    from flstore.federated.splits import dirichlet_partition, iid_partition, partition, shard_partition

__all__ = [
    "MODELS",
    "SETTINGS",
    "FLStoreObserver",
    "Fault",
    "Feeder",
    "Images",
    "LocalGrid",
    "Recording",
    "RoundData",
    "RunHistory",
    "Settings",
    "build",
    "client_app",
    "digits",
    "dirichlet_partition",
    "identify",
    "iid_partition",
    "images",
    "load_arrays",
    "observe",
    "partition",
    "record",
    "resume",
    "run",
    "run_app",
    "shard_partition",
    "simulate",
    "state_arrays",
]

_MODULE_OF = {
    "MODELS": "models",
    "SETTINGS": "settings",
    "FLStoreObserver": "nvflare",
    "Fault": "faults",
    "Feeder": "feeder",
    "Images": "data",
    "LocalGrid": "grid",
    "Recording": "recording",
    "RoundData": "rounds",
    "RunHistory": "app",
    "Settings": "settings",
    "build": "models",
    "client_app": "client",
    "digits": "data",
    "dirichlet_partition": "splits",
    "identify": "identity",
    "iid_partition": "splits",
    "images": "data",
    "load_arrays": "models",
    "observe": "flower",
    "partition": "splits",
    "record": "recorder",
    "resume": "restoring",
    "run": "app",
    "run_app": "flower_app",
    "shard_partition": "splits",
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
