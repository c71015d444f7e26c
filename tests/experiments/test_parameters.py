"""A wrong scale, key or parameter stops a run before it starts."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from experiments.parameters import (
    HERE,
    NEEDS,
    NOT_TIMED,
    READERS,
    check_notebook,
    check_scale,
    chosen,
    load_recordings,
    load_scale,
)
from experiments.room import check_room
from flstore.errors import InvalidParameterError

ROOT = HERE.parent
SCALES = ("smoke", "laptop", "paper")


def notebook_with(path: Path, *sources: str, tag: str = "parameters") -> Path:
    """A notebook whose first cell has `tag`."""
    cells = [new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = [tag]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_fits_the_schema_and_the_notebooks(scale: str):
    for experiment, parameters in load_scale(scale).items():
        also = {"recordings": "."} if experiment in READERS else {}
        check_notebook(HERE / f"{experiment}.ipynb", {**parameters, **also, "outdir": "."})


def test_unknown_scale_names_those_that_exist():
    with pytest.raises(InvalidParameterError, match=r"'huge'\. Known: laptop, paper, smoke"):
        load_scale("huge")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["tab03"].update(colour="red"), r"tab03: .*'colour' was unexpected"),
        (lambda p: p["tab03"].pop("seeds"), "tab03: 'seeds' is a required property"),
        (lambda p: p["fig07"].update(rounds=0), r"fig07\.rounds: 0 is less than the minimum"),
        (lambda p: p["fig07"].update(models=["resnet19"]), r"fig07\.models\.0: 'resnet19' is not one of"),
        (lambda p: p.update(fig99={}), "'fig99' was unexpected"),
        (lambda p: p["fig07"].update(rounds=9), r"fig07\.rounds: 9 is more than the 3 of recordings\.rounds"),
        (lambda p: p["load"].update(model="swin_v2_t"), "load: recordings.models lacks 'swin_v2_t'"),
        (lambda p: p["recordings"].pop("seed"), "recordings: 'seed' is a required property"),
        (lambda p: p.pop("tab03"), "'tab03' is a required property"),
    ],
)
def test_a_scale_that_does_not_fit_names_the_place(change, message: str):
    parameters = {**copy.deepcopy(load_scale("smoke")), "recordings": load_recordings("smoke")}
    change(parameters)
    with pytest.raises(InvalidParameterError, match=message):
        check_scale(parameters, "changed.yaml")


def test_experiments_by_name_bring_what_they_read():
    scale = load_scale("smoke")
    assert chosen("fig02, fig10", scale) == ["fig01", "fig02", "fig10"]
    assert chosen(["fig08"], scale) == ["fig07", "fig08"]
    assert chosen(None, scale) == list(scale)
    with pytest.raises(InvalidParameterError, match=r"no experiment 'fig99'\. Known: appa1, appa2"):
        chosen("fig99", scale)


def test_every_experiment_has_a_notebook_and_every_notebook_parameters():
    assert set(load_scale("smoke")) == {path.stem for path in HERE.glob("*.ipynb")}
    assert set(load_scale("smoke")) >= {*NOT_TIMED, *NEEDS}


def test_too_little_disk_or_memory_is_said_with_the_figures():
    scale = load_scale("smoke")
    scale["fig07"] |= {"rounds": 10**9}
    scale["scale"] |= {"clients": [10**15]}
    with pytest.raises(
        InvalidParameterError, match=r"scale 'smoke': fig07 needs about \d+\.\d GB of disk below .* are "
    ):
        check_room("smoke", scale, scale)
    with pytest.raises(
        InvalidParameterError, match=r": scale needs about \d+\.\d GB of memory and \d+\.\d GB are free"
    ):
        check_room("smoke", scale, ["scale"])
    with pytest.raises(
        InvalidParameterError, match=r": the recorded runs of mobilenet_v3_small need about \d+\.\d GB of "
    ):
        check_room("smoke", scale, ["load"], {**load_recordings("smoke"), "per_round": 10**12})
    check_room("smoke", scale, ["tab01", "appb"])


def test_a_parameter_that_the_notebook_lacks_is_an_error(tmp_path: Path):
    path = notebook_with(tmp_path / "n.ipynb", "seed = 1\noutdir = '.'", "print(seed)")
    check_notebook(path, {"seed": 2})
    with pytest.raises(InvalidParameterError, match=r"no parameter 'sed'\. Known: outdir, seed"):
        check_notebook(path, {"sed": 2})


def test_a_notebook_without_a_parameters_cell_is_an_error(tmp_path: Path):
    path = notebook_with(tmp_path / "n.ipynb", "seed = 1", tag="other")
    with pytest.raises(InvalidParameterError, match="no cell with the tag 'parameters'"):
        check_notebook(path, {"seed": 2})


def dry_run(tmp_path: Path, *config: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "reproduce-all", "-n", "--config", f"results={tmp_path}", *config]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_workflow_runs_every_experiment_and_the_ledger_by_default(tmp_path: Path):
    done = dry_run(tmp_path)
    assert done.returncode == 0, done.stderr
    for name in (
        "recordings/resnet18.json",
        "tab03/data.csv",
        "fig07/figure.svg",
        "fig07/run.json",
        "ledger.html",
        "ledger.csv",
    ):
        assert f"{tmp_path}/smoke/{name}" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("scale=huge", "'huge' is not one of"),
        ("skale=smoke", "'skale' was unexpected"),
        ("experiments=fig10,fig99", "There is no experiment 'fig99'. Known: appa1"),
    ],
)
def test_the_workflow_refuses_a_wrong_scale_or_key(tmp_path: Path, config: str, message: str):
    done = dry_run(tmp_path, config)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
