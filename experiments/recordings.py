"""Runs of federated training that experiments share: each is recorded once for a scale, and read by all.

``python -m experiments.recordings resnet18 --scale smoke`` records one, below ``build/recordings/smoke``, or goes on
where it was interrupted, or finds it done; ``results/smoke/recordings/resnet18.json`` says what was recorded.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flstore.errors import FLStoreError, InvalidParameterError

if TYPE_CHECKING:
    from flstore.federated import Recording, RoundData


def recorded(model: str, settings: Mapping[str, Any], folder: Path) -> Recording:
    """The recording of a model with these settings, made or finished where it is not complete.

    One with other settings is replaced: nobody else's data lies in `folder`.
    """
    from flstore.federated import record

    root = folder / model
    arguments = {name: value for name, value in settings.items() if name != "models"}
    try:
        return record(str(root), model=model, **arguments)
    except InvalidParameterError:
        shutil.rmtree(root, ignore_errors=True)
        return record(str(root), model=model, **arguments)


def opened(folder: str, model: str) -> Recording:
    """The recording of a model below `folder`, for a notebook.

    Raises
    ------
    InvalidParameterError
        There is none, or not all of it; the message has the command that makes it.
    """
    from flstore.federated import Recording

    try:
        recording = Recording.open(str(Path(folder, model)))
    except FLStoreError as error:
        raise InvalidParameterError(f"{error}. {_command(folder, model)}") from error
    if not recording.complete:
        raise InvalidParameterError(f"{Path(folder, model)} has not all of its rounds. {_command(folder, model)}")
    return recording


def rounds_of(folder: str, model: str, rounds: int, clients: int) -> Iterator[RoundData]:
    """The model that training started from as round 0, then so many rounds with the updates of so many clients."""
    recording = opened(folder, model)
    for number in range(rounds + 1):
        yield recording.read(number, clients)


def _command(folder: str, model: str) -> str:
    scale = Path(folder).name
    return f"This makes it, in the top folder: python -m experiments.recordings {model} --scale {scale}"


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``python -m experiments.recordings``."""
    from experiments.parameters import FOLDER, load_recordings

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--scale", default="smoke")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args(arguments)
    recording = recorded(options.model, load_recordings(options.scale), FOLDER / options.scale)
    note = {**recording.note(), "size_bytes": recording.size_bytes}
    path = options.results / options.scale / "recordings" / f"{options.model}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
