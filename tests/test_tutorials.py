"""What every tutorial is: numbered, short, and committed as it ran. Its outputs are for nbval to compare."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def test_they_are_numbered_without_gaps():
    assert [path.stem.split("-")[0] for path in TUTORIALS] == [f"{i:02}" for i in range(1, len(TUTORIALS) + 1)]


@each
def test_a_tutorial_is_short_and_begins_with_its_title(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    assert max(len(cell.source.splitlines()) for cell in cells) < 60


@each
def test_a_tutorial_is_committed_as_it_ran(path: Path):
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
    assert "execution" not in str([cell.metadata for cell in code])  # when each cell ran: a difference in every commit
    assert "/home/" not in str(outputs)
    assert "site-packages" not in str(outputs)
