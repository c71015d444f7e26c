"""Every public name explains itself, every example in the documents runs, and the site has no broken link."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
from flwr.serverapp.strategy import FedAvg

import flstore
from flstore.testing.sample_job import sample_job
from tests.sample_store import fill

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(
    "flstore." + path.parent.relative_to(ROOT / "flstore").as_posix().replace("/", ".")
    for path in (ROOT / "flstore").glob("*/**/__init__.py")
    if "__all__" in path.read_text(encoding="utf-8")
)
DOCUMENTS = [
    str(path.relative_to(ROOT))
    for where in ("README.md", "docs/*.md", "flstore/*/*.md")
    for path in sorted(ROOT.glob(where))
]
_BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)


# --- docstrings -----------------------------------------------------------------------------------------------------


def public() -> Iterator[tuple[str, Any]]:
    """Classes and functions that a package lists, and the methods of the store."""
    for package in ("flstore", *PACKAGES):
        module = importlib.import_module(package)
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isclass(found) or inspect.isroutine(found):
                yield f"{package}.{name}", found
    for name, method in inspect.getmembers(flstore.FLStore):
        if not name.startswith("_") and inspect.isroutine(method):
            yield f"flstore.FLStore.{name}", method


PUBLIC = dict(public())


def parameters(found: Any) -> list[str]:
    """Names that a caller may give, those of a class being its constructor's."""
    if inspect.isclass(found) and found.__init__ is object.__init__:
        return []
    if inspect.isclass(found) and issubclass(found, BaseException | tuple):
        return []
    try:
        signature = inspect.signature(found)
    except ValueError:
        return []
    given = [p for p in signature.parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.name for p in given if p.name != "self" and not p.name.startswith("_")]


def described(doc: str, *sections: str) -> set[str]:
    """Names in the numpydoc sections of a docstring: ``a, b : int`` describes two."""
    names: set[str] = set()
    for section in sections:
        found = re.search(
            rf"^{section}\n-{{{len(section)}}}\n(.*?)(?=^\w[^\n]*\n---|\Z)", doc, flags=re.DOTALL | re.MULTILINE
        )
        for line in found[1].splitlines() if found else ():
            if line and not line[0].isspace():
                names |= {name.strip(" *") for name in line.split(" : ")[0].split(",")}
    return names


def test_the_packages_are_found():
    assert {"flstore.policies", "flstore.simulator", "flstore.workloads", "flstore.testing.faults"} <= set(PACKAGES)
    assert "flstore.FLStore.monitor" in PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_what_it_does_and_takes(name: str):
    found = PUBLIC[name]
    doc = inspect.getdoc(found) or ""
    assert doc.splitlines()[:1] not in ([], [""]), f"{name} has no docstring"
    if found is flstore.FLStore:
        return  # nobody calls its constructor: local() and connect() do
    sections = ("Parameters", "Attributes") if is_dataclass(found) else ("Parameters",)
    if inspect.isclass(found):
        doc += "\n\n" + (inspect.getdoc(found.__init__) or "")
    missing = [p for p in parameters(found) if p not in described(doc, *sections)]
    assert missing == [], f"{name}: not under {' or '.join(sections)}"


# --- examples -------------------------------------------------------------------------------------------------------


def blocks(document: str) -> list[str]:
    return _BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[flstore.FLStore]:
    """The ``store`` of blocks that do not open one: the sample job, in ``./recorded``, and asked once."""
    with flstore.FLStore.local(functions=1, memory="64MiB", root=tmp_path / "recorded") as opened:
        fill(opened, sample_job())
        opened.request("clustering", round=3, k=2)
        yield opened


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if blocks(document)])
def test_the_blocks_of_a_document_run_one_after_another(
    document: str, store: flstore.FLStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As a reader would run them: in a folder with a store and tables, each knowing what those before it made."""
    monkeypatch.chdir(tmp_path)
    for name in ("prices", "links"):
        shutil.copyfile(ROOT / "flstore" / "cost" / f"{name}.yaml", tmp_path / f"my-{name}.yaml")
    names: dict[str, Any] = {"__name__": "__main__", "store": store}
    with ThreadPoolExecutor(1) as executor, contextlib.redirect_stdout(io.StringIO()):
        names["executor"] = executor
        for block in blocks(document):
            if "FedAvg(" in block and "FedAvg" not in names:  # the line that changes in an app that has these
                names |= {"FedAvg": FedAvg, "store": store}
            exec(compile(block, document, "exec"), names)


# --- the site -------------------------------------------------------------------------------------------------------


def places(name: str) -> set[str]:
    """Where the reference may have a name: a function that is called like its module stands in that module."""
    last = name.rpartition(".")[2]
    method = {f"flstore.store.FLStore.{last}", f"flstore.system.System.{last}"}
    if name.startswith("flstore.FLStore."):
        return method
    return {name, f"{name}.{last}"} if name != "flstore.FLStore" else {"flstore.store.FLStore"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_site_is_built_without_a_warning_and_has_every_name(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index.html", "CHANGELOG/index.html", "notebooks/01-first-look/index.html", "benchmarks/index.html"):
        assert (tmp_path / page).is_file(), page
    reference = "".join(p.read_text(encoding="utf-8") for p in (tmp_path / "docs" / "reference").rglob("*.html"))
    identifiers = set(re.findall(r'id="(flstore[\w.]*)"', reference))
    assert [name for name in PUBLIC if not identifiers & places(name)] == []
    tutorial = (tmp_path / "notebooks" / "01-first-look" / "index.html").read_text(encoding="utf-8")
    assert "fl-functions" in tutorial  # outputs as they are committed


def test_make_docs_fails_on_a_warning(tmp_path: Path):
    page, config = tmp_path / "pages" / "index.md", tmp_path / "mkdocs.yml"
    page.parent.mkdir()
    config.write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: pages\nsite_dir: site\nhooks: []\nnav: []\nplugins: []\n"
    )
    command = ["make", "-C", str(ROOT), "docs", "READY=", f"BIN={Path(sys.executable).parent}", f"DOCS=-f {config}"]
    said = {}
    for name, text in {"whole": "[this page](index.md)", "broken": "[nothing](nowhere.md)"}.items():
        page.write_text(text)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        said[name] = done.returncode == 0, "nowhere.md" in done.stdout + done.stderr
    assert said == {"whole": (True, False), "broken": (False, True)}, done.stdout + done.stderr
