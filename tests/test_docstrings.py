"""The examples in the docstrings run as they stand."""

from __future__ import annotations

import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from flstore import FLStore
from flstore.testing.sample_job import sample_job
from tests.sample_store import fill

ROOT = Path(__file__).parents[1]
EXAMPLE = re.compile(r"^ *>>> (?!.*# doctest: \+SKIP)", flags=re.MULTILINE)
OPTIONS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def names() -> list[str]:
    """Modules that show an example."""
    found = [path for path in sorted((ROOT / "flstore").rglob("*.py")) if EXAMPLE.search(path.read_text("utf-8"))]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in found]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[FLStore]:
    """The ``store`` of examples that do not open one: the sample job, in ``./flstore-data``."""
    with FLStore.local(functions=1, root=folder / "flstore-data", memory="64MiB") as opened:
        fill(opened, sample_job())
        yield opened


@pytest.mark.parametrize("name", names())
def test_the_examples_of_a_module_run(
    name: str, store: FLStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    module = importlib.import_module(name)
    outcome = doctest.testmod(module, optionflags=OPTIONS, extraglobs={"store": store, "tmp_path": tmp_path})
    assert outcome.attempted > 0
    assert outcome.failed == 0
