"""The tutorials and the monitor in JupyterLab as `make lab` starts it, in a real Chromium: `pytest -m browser`.

Screenshots go to the folder that the environment names with ``SHOTS``, else to pytest's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
sync_api = pytest.importorskip("playwright.sync_api")

ROOT = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
ERROR = '.jp-OutputArea-output:has-text("Traceback (most recent call last)")'
SETTINGS = {  # no questions, no news, dark where the browser is, and every cell in the page though it is out of sight
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/apputils-extension/themes": {"adaptive-theme": True},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}
TUTORIALS = [path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
WATCHED = [
    "from pathlib import Path\n"
    "import numpy as np\n"
    "from flstore import FLStore\n"
    "store = FLStore.local(functions=2, memory='64MiB', root='data')",
    "monitor = store.monitor(interval_s=0.2)",
    "rng, round = np.random.default_rng(0), 0\n"
    "while not Path('enough').exists():\n"
    "    round += 1\n"
    "    clients = rng.choice(12, 8, replace=False)\n"
    "    store.ingest(round, {f'c{i}': {'w': rng.normal(size=2000).astype('f4')} for i in clients})\n"
    "    store.request('cosine_similarity', round=round)\n"
    "    store.flush()",
    "store.close()\nprint('closed after', 'some' if round > 3 else 'too few', 'rounds')",
    "store",
]


@dataclass(frozen=True)
class Lab:
    """A JupyterLab that runs."""

    url: str
    token: str
    root: Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """`make lab` on copies of the notebooks, with settings of its own."""
    folder = tmp_path_factory.mktemp("lab")
    root, own = folder / "root", folder / "own"
    for name in ("notebooks", "examples", "experiments"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name, values in SETTINGS.items():
        path = own / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    more = f"--no-browser --port={port} --ServerApp.port_retries=0" + (" --allow-root" if os.geteuid() == 0 else "")
    mine = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}  # tests draw nowhere
    environment = {
        **mine, "PYTHONPATH": str(ROOT), "JUPYTER_TOKEN": token, "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_DATA_DIR": str(own / "data"), "JUPYTER_RUNTIME_DIR": str(own / "runtime"),
        "IPYTHONDIR": str(own / "ipython"), "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"),
    }  # fmt: skip
    command = ["make", "-C", str(ROOT), "lab", "READY=", f"BIN={Path(sys.executable).parent}", f"LAB_ROOT={root}"]
    with open(folder / "lab.log", "w") as log:
        process = subprocess.Popen([*command, f"LAB={more}"], env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _await_server(f"{url}/api/status?token={token}", process, folder / "lab.log")
        yield Lab(url, token, root)
    finally:
        stop = urllib.request.Request(f"{url}/api/shutdown?token={token}", method="POST")
        urllib.request.urlopen(stop, timeout=30)
        process.wait(60)


def _await_server(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no Chromium: install one (Debian: apt-get install chromium), or name it with CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SHOTS", tmp_path / "shots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Page:
    """A notebook in the browser."""

    def __init__(self, browser: Any, lab: Lab, notebook: str, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": 1280, "height": 1600}, color_scheme=scheme)
        self.wrong: list[str] = []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.goto(f"{lab.url}/doc/tree/{notebook}?reset&token={lab.token}", wait_until="domcontentloaded")
        self.page.locator(".jp-Notebook").wait_for(timeout=120_000)
        self._await_kernel(lab, notebook)

    def _await_kernel(self, lab: Lab, notebook: str) -> None:
        """Wait until the page has its kernel: what is asked to run before, JupyterLab drops and says nothing."""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with urllib.request.urlopen(f"{lab.url}/api/sessions?token={lab.token}", timeout=30) as answer:
                kernels = [s["kernel"] for s in json.load(answer) if s["path"] == notebook]
            if any(k["connections"] and k["execution_state"] == "idle" for k in kernels):
                return
            time.sleep(0.2)
        raise AssertionError(f"no kernel for {notebook}: {kernels}")

    def menu(self, name: str, item: str) -> None:
        """Choose what a pattern matches from a menu."""
        self.page.get_by_role("menuitem", name=name, exact=True).click()
        self.page.get_by_role("menuitem", name=re.compile(item)).first.click()

    def run_all(self) -> None:
        self.page.locator(".jp-Notebook .jp-Cell").first.click()
        self.menu("Run", "^Run All Cells$")

    def await_end(self, cells: int, seconds: float = 400) -> None:
        """Wait until so many code cells have run; an error stops the notebook, and the wait."""
        last = self.page.locator(".jp-CodeCell .jp-InputPrompt", has_text=re.compile(rf"^\[{cells}\]:"))
        last.or_(self.page.locator(ERROR)).first.wait_for(timeout=seconds * 1000)
        assert self.page.locator(ERROR).all_inner_texts() == []
        last.wait_for(timeout=1000)

    def save(self) -> None:
        self.menu("File", "^Save Notebook")

    def close(self) -> None:
        self.page.close()
        assert self.wrong == []


def test_nobody_gets_in_without_the_token(lab: Lab):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{lab.url}/api/contents", timeout=30)


@pytest.mark.parametrize("tutorial", TUTORIALS)
def test_a_tutorial_runs_and_shows_itself(lab: Lab, chromium: Any, shots: Path, tutorial: str):
    name = f"notebooks/{tutorial}.ipynb"
    cells = [
        c for c in nbformat.read(lab.root / name, as_version=4).cells if c.cell_type == "code" and c.source.strip()
    ]
    shown = Page(chromium, lab, name)
    shown.menu("Edit", "^Clear Outputs of All Cells")
    assert shown.page.locator(".jp-OutputArea-output").count() == 0  # what is found below was made here
    shown.run_all()
    shown.await_end(len(cells))
    if tutorial == TUTORIALS[0]:
        assert shown.page.locator(".flstore table").count() >= 2
        assert shown.page.locator(".flstore .fl-gauge").count() >= 2
    assert shown.page.locator('.jp-OutputArea-output img[src^="data:image/png"]').count() >= 1
    for i, output in enumerate(shown.page.locator(".jp-OutputArea-output:has(.flstore), .jp-RenderedImage").all()):
        output.scroll_into_view_if_needed()
        assert output.bounding_box()["height"] > 40
        output.screenshot(path=shots / f"{tutorial}-{i}.png")
    shown.page.screenshot(path=shots / f"{tutorial}.png")
    shown.close()


def watched(lab: Lab, name: str) -> Path:
    """A folder with a notebook that trains and asks below a monitor, until there is a file `enough`."""
    folder = lab.root / f"watched-{name}"
    folder.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in WATCHED])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(notebook, folder / "watched.ipynb")
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_monitor_is_live_and_stays_when_it_is_over(lab: Lab, chromium: Any, shots: Path, scheme: str):
    folder = watched(lab, scheme)
    shown = Page(chromium, lab, f"{folder.name}/watched.ipynb", scheme)
    shown.run_all()
    cell = shown.page.locator(".jp-CodeCell").nth(1)
    cell.locator(".fl-live").wait_for(timeout=120_000)
    cell.locator(".fl-facts", has_text=re.compile(r"holds\s*(?:[4-9]|\d\d+) rounds")).wait_for(timeout=120_000)
    cell.locator(".fl-map svg path.fl-cached").wait_for(timeout=60_000)
    assert shown.page.locator(".jp-CodeCell").nth(2).locator(".jp-InputPrompt").inner_text() == "[*]:"
    assert shown.page.locator("body").get_attribute("data-jp-theme-light") == str(scheme == "light").lower()
    shown.page.screenshot(path=shots / f"monitor-live-{scheme}.png")
    (folder / "enough").touch()
    shown.await_end(len(WATCHED))
    assert "closed after some rounds" in shown.page.locator(".jp-CodeCell").nth(3).inner_text()
    assert cell.locator(".fl-live").count() == 0
    assert "as it was at" in cell.locator(".flstore .fl-title").inner_text()
    assert "This store is closed" in shown.page.locator(".jp-CodeCell").nth(4).locator(".flstore").inner_text()
    shown.page.screenshot(path=shots / f"monitor-closed-{scheme}.png")
    shown.save()
    shown.page.locator(".jp-NotebookPanel").first.wait_for()
    _await_saved(folder / "watched.ipynb")
    shown.close()


@pytest.mark.parametrize("restart", [False, True], ids=["in the same kernel", "in a new kernel"])
def test_a_notebook_that_was_interrupted_runs_again(lab: Lab, chromium: Any, restart: bool):
    """On the same root, which has a store that nobody closed."""
    folder = watched(lab, f"interrupted-{restart}")
    shown = Page(chromium, lab, f"{folder.name}/watched.ipynb")
    shown.run_all()
    seen = shown.page.locator(".jp-CodeCell").nth(1).locator(".fl-facts", has_text=re.compile(r"holds\s*[1-9]"))
    seen.wait_for(timeout=120_000)
    shown.menu("Kernel", "^Interrupt Kernel")
    shown.page.locator(ERROR).first.wait_for(timeout=60_000)
    assert "KeyboardInterrupt" in shown.page.locator(ERROR).first.inner_text()
    assert "0 lost" in shown.page.locator(".jp-CodeCell").nth(1).inner_text()  # what is in memory stays there
    (folder / "enough").touch()
    shown.menu("Edit", "^Clear Outputs of All Cells")  # the error would stop the wait below
    if restart:
        shown.menu("Kernel", "^Restart Kernel and Run All Cells")
        shown.page.locator(".jp-Dialog-button.jp-mod-accept").click()
        shown.await_end(len(WATCHED))
    else:
        shown.run_all()
        shown.await_end(3 + len(WATCHED))
    assert "This store is closed" in shown.page.locator(".jp-CodeCell").nth(4).locator(".flstore").inner_text()
    shown.close()


def _await_saved(path: Path) -> None:
    """Wait until the saved notebook has the monitor's last view as HTML, and no widget."""
    until, outputs = time.monotonic() + 30, []
    while time.monotonic() < until:
        with contextlib.suppress(nbformat.reader.NotJSONError):  # it is being written
            outputs = nbformat.read(path, as_version=4).cells[1].outputs
        if outputs:
            assert "as it was at" in outputs[0].data["text/html"]
            assert "application/vnd.jupyter.widget-view+json" not in outputs[0].data
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} was not saved")
