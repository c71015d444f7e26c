"""Runs of training are recorded once for a scale, and read by the experiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import parameters
from experiments.parameters import HERE
from experiments.recordings import main, opened, recorded, rounds_of
from flstore.errors import InvalidParameterError

MODEL = "mobilenet_v3_small"
SETTINGS: dict[str, Any] = {
    "models": [MODEL],
    "rounds": 1,
    "clients": 4,
    "per_round": 2,
    "max_batches": 1,
    "seed": 3,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings") / "smoke"
    assert recorded(MODEL, SETTINGS, folder).complete
    return folder


def test_the_rounds_of_a_recording_are_read_by_number_and_so_many_clients(folder: Path):
    start, first = rounds_of(str(folder), MODEL, 1, 1)
    assert (start.number, len(start.updates), first.number, len(first.updates)) == (0, 0, 1, 1)
    assert first.metadata.keys() == first.updates.keys()


def test_one_that_is_there_is_not_trained_again_and_one_with_other_settings_is(folder: Path):
    before = (folder / MODEL / "run.json").stat().st_mtime_ns
    assert recorded(MODEL, SETTINGS, folder).arguments["seed"] == 3
    assert (folder / MODEL / "run.json").stat().st_mtime_ns == before
    assert recorded(MODEL, {**SETTINGS, "seed": 4}, folder).arguments["seed"] == 4
    recorded(MODEL, SETTINGS, folder)


def test_a_notebook_without_its_recording_is_told_how_to_make_it(folder: Path):
    command = "python -m experiments.recordings resnet18 --scale smoke"
    with pytest.raises(InvalidParameterError, match=f"there is no recording below .*{command}"):
        opened(str(folder), "resnet18")


def test_an_unfinished_one_is_refused(folder: Path, tmp_path: Path):
    note = json.loads((folder / MODEL / "run.json").read_text())
    note["rounds"].pop()
    (tmp_path / MODEL).mkdir()
    (tmp_path / MODEL / "run.json").write_text(json.dumps(note))
    with pytest.raises(InvalidParameterError, match=f"{MODEL} has not all of its rounds"):
        opened(str(tmp_path), MODEL)


def test_the_command_leaves_a_note_of_what_was_recorded(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parameters, "FOLDER", folder.parent)
    monkeypatch.setattr(parameters, "load_recordings", lambda scale: SETTINGS)
    main([MODEL, "--scale", "smoke", "--results", str(tmp_path)])
    note = json.loads((tmp_path / "smoke" / "recordings" / f"{MODEL}.json").read_text())
    assert note["arguments"]["seed"] == 3
    assert len(note["rounds"]) == 2
    assert note["size_bytes"] > 0


def test_every_experiment_that_reads_one_takes_the_folder_and_no_other_does():
    takes = {path.stem for path in HERE.glob("*.ipynb") if '"recordings = ' in path.read_text()}
    assert takes == parameters.READERS
