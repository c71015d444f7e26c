"""How much disk and memory an experiment needs at a scale, and whether this machine has it, before anything runs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.parameters import FOLDER, models_of
from flstore.errors import InvalidParameterError
from flstore.persistence.layout import RUN

GB = 10**9
LITTLE_DISK, LITTLE_MEMORY = 0.1 * GB, 1.0 * GB
"""Of an experiment that replays or computes: its figures; a notebook, and a table of a few hundred thousand rows."""
TORCH = 1.5 * GB
"""Of a process that trains or evaluates."""


COPIES = {
    # experiment: copies of all rounds on disk, and in memory; stores with two rounds in memory
    "fig04": (1, 0, 0),
    "fig07": (1, 0, 1),
    "fig09": (2, 1, 2),
    "appa2": (1, 0, 4),
    "coldstart": (1, 0, 1),
    "fairness": (7, 1, 4),
}
"""Experiments that read recordings, and give them to systems of their own, one model after the other."""


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that an experiment needs while it runs, for its temporary files and in memory."""

    disk_bytes: float = LITTLE_DISK
    memory_bytes: float = LITTLE_MEMORY


def needed(experiment: str, parameters: Mapping[str, Any]) -> Room:
    """An estimate from the parameters: objects that are written, and rounds that are held. Little for all others.

    Examples
    --------
    >>> round(needed("fig07", {"models": ["resnet18"], "rounds": 10}).disk_bytes / GB, 1)
    5.0
    """
    if experiment == "fig01":
        updates = (parameters["subset"] + 2) * _update_bytes(parameters["model"])
        return Room(LITTLE_DISK + updates, TORCH + 3 * updates)
    if experiment == "tab02":
        from flstore.federated.llama import CUT, LLAMA_1B, TINY

        model = 2 * {"llama_1b": LLAMA_1B, "cut": CUT, "tiny": TINY}[parameters["architecture"]].parameters
        return Room(LITTLE_DISK + 2 * model, 2 * TORCH + 3 * model)
    if experiment in COPIES:
        return _copies(parameters, *COPIES[experiment])
    if experiment == "scale":
        rows = max(parameters["clients"]) * parameters["share"] * parameters["rounds"]
        return Room(memory_bytes=LITTLE_MEMORY + 300 * rows)
    return Room()


def _copies(parameters: Mapping[str, Any], on_disk: int, in_memory: int, stores: int) -> Room:
    models = parameters.get("models") or [parameters["model"]]
    a_round = (parameters.get("per_round", 10) + 1) * max(map(_update_bytes, models))
    rounds = parameters.get("rounds", 1)
    held = (2 + 2 * stores) * a_round  # two rounds in each store, one on its way, one being read
    return Room(LITTLE_DISK + on_disk * rounds * a_round, 2 * TORCH + in_memory * rounds * a_round + held)


def recordings_bytes(settings: Mapping[str, Any], models: Iterable[str]) -> float:
    """What the recorded runs of `models` take on disk.

    Examples
    --------
    >>> round(recordings_bytes({"rounds": 3, "per_round": 10}, ["resnet18"]) / GB, 1)
    1.5
    """
    return sum(settings["rounds"] * (settings["per_round"] + 1) * _update_bytes(model) for model in models)


def check_room(
    scale: str,
    parameters: Mapping[str, Mapping[str, Any]],
    experiments: Iterable[str],
    recordings: Mapping[str, Any] | None = None,
) -> None:
    """Raise :class:`InvalidParameterError` when this machine has too little free disk or memory for one of them.

    With `recordings`, their settings, room is needed for those that the experiments read and that are not there yet.
    """
    import psutil

    folder = Path(tempfile.gettempdir())
    free = {"disk_bytes": shutil.disk_usage(folder).free, "memory_bytes": psutil.virtual_memory().available}
    ways = {
        "disk_bytes": (f"disk below {folder}", "name another folder with TMPDIR"),
        "memory_bytes": ("memory", "end what else runs"),
    }
    short = []
    experiments = list(experiments)
    if recordings is not None:
        read = {model for name in experiments for model in models_of(name, parameters[name])}
        missing = [model for model in sorted(read) if not (FOLDER / scale / model / RUN).exists()]
        wanted, there = recordings_bytes(recordings, missing), shutil.disk_usage(Path()).free
        if wanted > there:
            short.append(
                f"the recorded runs of {', '.join(missing)} need about {wanted / GB:.1f} GB of disk below {FOLDER} and "
                f"{there / GB:.1f} GB are free"
            )
    for name in experiments:
        room = needed(name, parameters[name])
        for kind, (what, way_out) in ways.items():
            if getattr(room, kind) > free[kind]:
                short.append(
                    f"{name} needs about {getattr(room, kind) / GB:.1f} GB of {what} and {free[kind] / GB:.1f} GB are "
                    f"free ({way_out})"
                )
    if short:
        raise InvalidParameterError(f"Too little room for scale {scale!r}: {'; '.join(short)}; or run a smaller scale.")


def _update_bytes(model: str) -> float:
    from flstore.cost._yaml import read

    content, _ = read(None, "paper")
    return float(content["models"][model]["update_bytes"])
