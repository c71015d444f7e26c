"""A notebook runs with its parameters and leaves a record, or fails loudly and leaves itself."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

from experiments.run_notebook import main, run
from flstore.errors import InvalidParameterError


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    """Writes ten divided by `divisor` into ``data.csv``."""
    cells = [
        new_code_cell("divisor = 1\nseed = 0\noutdir = '.'", metadata={"tags": ["parameters"]}),
        new_code_cell("from pathlib import Path\nPath(outdir, 'data.csv').write_text(f'{10 / divisor:g}')"),
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    path = tmp_path / "book" / "n.ipynb"
    path.parent.mkdir()
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def test_a_run_writes_its_data_and_what_it_ran_with(notebook: Path, tmp_path: Path):
    outdir = tmp_path / "out"
    run(notebook, {"divisor": 4, "seed": 7}, outdir, tmp_path / "logs" / "n.ipynb")
    assert (outdir / "data.csv").read_text() == "2.5"
    record = json.loads((outdir / "run.json").read_text())
    assert record["parameters"] == {"divisor": 4, "seed": 7, "outdir": "../out"}
    assert record["seeds"] == {"seed": 7}
    assert record["versions"]["python"].startswith("3.")
    assert record["machine"]["cores"] >= 1
    assert not list((tmp_path / "logs").iterdir())
    executed = nbformat.read(outdir / "executed.ipynb", as_version=4)
    assert all(cell.execution_count is not None for cell in executed.cells if cell.cell_type == "code")


def test_an_unknown_parameter_stops_the_run_before_it_starts(notebook: Path, tmp_path: Path):
    with pytest.raises(InvalidParameterError, match="no parameter 'divizor'"):
        run(notebook, {"divizor": 4}, tmp_path / "out", tmp_path / "logs" / "n.ipynb")
    assert not (tmp_path / "out").exists()


def test_a_notebook_that_fails_is_left_with_its_error(notebook: Path, tmp_path: Path):
    with pytest.raises(PapermillExecutionError, match="ZeroDivisionError"):
        run(notebook, {"divisor": 0}, tmp_path / "out", tmp_path / "logs" / "n.ipynb")
    assert "ZeroDivisionError" in (tmp_path / "logs" / "n.ipynb").read_text()
    assert not (tmp_path / "out" / "executed.ipynb").exists()


def test_an_unknown_experiment_names_those_that_exist(tmp_path: Path):
    with pytest.raises(InvalidParameterError, match=r"'fig99'\. Known: appa1, appa2, appb, "):
        main(["fig99", "--results", str(tmp_path)])
