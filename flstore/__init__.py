"""FLStore: a cache for the non-training work of federated learning, with the computation placed where the data is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["FLStore", "__version__", "baselines", "errors", "policies", "simulator", "workloads"]

if TYPE_CHECKING:
    from flstore import baselines, errors, policies, simulator, workloads
    from flstore.store import FLStore

_MODULES = ("baselines", "errors", "federated", "persistence", "policies", "simulator", "testing", "workloads")


def __getattr__(name: str) -> Any:
    """Import parts when they are first used: ``import flstore`` stays fast."""
    import importlib

    if name == "FLStore":
        return importlib.import_module("flstore.store").FLStore
    if name in _MODULES:
        return importlib.import_module(f"flstore.{name}")
    raise AttributeError(f"module 'flstore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
