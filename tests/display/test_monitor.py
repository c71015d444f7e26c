"""The live monitor: what it says, when it stops, and what it leaves in a notebook."""

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from flstore import FLStore
from flstore.display.monitor import SILENT, html, text
from flstore.errors import InvalidParameterError, OptionalDependencyError, StoreClosedError
from flstore.monitor import Glance, Monitor
from flstore.status import ClassStatus, FunctionStatus, Status
from flstore.testing import faults

MIB = 1 << 20
STATUS = Status(
    "s3://KEY:SECRET@host/bucket", "digits", "tailored", False, 12, 50, 13, 3 * MIB,
    functions=(
        FunctionStatus("function-0", True, 8 * MIB, 2 * MIB, 1, 2, 0, (3,)),
        FunctionStatus("function-1", True, 8 * MIB, 8 * MIB, 12, 1, 60, ()),
    ),
    classes=(ClassStatus("P2", 3, 9, 1, 2, 0.0123), ClassStatus("P4", 1, 8, 0, 0, float("nan"))),
)  # fmt: skip
GLANCE = Glance(
    STATUS, in_flight=3, waiting=2, per_s=12.4, recent_hit_ratio=0.5, lost=1, joined=2,
    silent=frozenset({"function-1"}), news=("12:00:01 function-1 was lost",), at="12:00:02", live=True,
)  # fmt: skip


def updates(round: int, clients: int = 4) -> dict[str, dict[str, np.ndarray]]:
    return {f"c{i}": {"w": np.full(64, i + round, "f4")} for i in range(clients)}


def monitors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flstore-monitor"]


def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for what the monitor's thread sees; it tells nobody."""
    over = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < over, "the monitor never saw it"
        time.sleep(0.01)


@pytest.fixture
def store() -> Iterator[FLStore]:
    with FLStore.local(functions=1, memory="64MiB", root=f"memory://{uuid.uuid4().hex}") as store:
        yield store


def test_html_and_text_state_the_same_facts(read):
    page = read(html(GLANCE))
    assert page.facts() == {
        "job": "digits in s3://host/bucket, policy tailored",
        "holds": "12 rounds, latest 13; 50 clients; 3.00 MiB not yet durable",
        "requests": "4 (12/s); 3 in flight, 2 in line",
        "hit ratio": "85.0 % of 20 objects; 5.0 % were on their way, 10.0 % missed; 50.0 % lately",
        "functions": "2; 1 lost and 2 joined meanwhile",
    }
    assert page.rows[5:] == [
        ["function-0", "alive", "2.00 MiB of 8.00 MiB (25.0 %)"],
        ["function-1", SILENT, "8.00 MiB of 8.00 MiB (100.0 %)"],
    ]
    for said in (*page.facts().values(), *page.rows[5], *page.rows[6], *GLANCE.news, "live at 12:00:02"):
        assert said in page.words
        assert said in text(GLANCE)


def test_the_last_view_does_not_say_that_it_is_live():
    last = replace(GLANCE, live=False)
    assert "fl-live" in html(GLANCE).rpartition("</style>")[2]
    assert "fl-live" not in html(last).rpartition("</style>")[2]
    assert "as it was at 12:00:02" in text(last)


def test_the_dashboard_is_linked_when_there_is_one(read):
    url = "http://10.0.0.1:8787/status"
    page = read(html(replace(GLANCE, status=replace(STATUS, dashboard=url))))
    assert ("a", "href", url) in page.attributes
    assert "a" not in read(html(GLANCE)).tags


def test_names_are_escaped_and_bring_no_script(read):
    evil = "<script>alert(1)</script>"
    status = replace(STATUS, job=evil, problem=evil, functions=(replace(STATUS.functions[0], name=evil),))
    page = read(html(replace(GLANCE, status=status, news=(evil,))))
    assert page.words.count(evil) == 4
    assert "script" not in page.tags


def test_it_sees_what_happens_and_closes_with_its_store(store: FLStore):
    monitor = store.monitor(interval_s=0.01)
    assert monitor.glance.status.rounds == 0
    store.ingest(1, updates(1))
    store.flush()
    for _ in range(2):
        store.request("cosine_similarity", round=1)
    until(lambda: sum(c.requests for c in monitor.glance.status.classes) == 2)
    assert monitor.glance.live
    assert not monitor.closed
    store.close()
    assert monitor.closed
    assert monitors() == []
    last = monitor.glance
    assert not last.live
    assert [f.alive for f in last.status.functions] == [True]  # the last look was before the end
    assert last.status.cache.counts.tolist() == [0, 0, 0, 4]
    assert "1 round, latest 1; 4 clients" in repr(monitor)


def test_one_at_a_time_and_closing_is_for_good(store: FLStore):
    with store.monitor(interval_s=0.01) as first:
        second = store.monitor(interval_s=0.01)
        assert first.closed
        assert len(monitors()) == 1
    second.close()
    second.close()
    assert monitors() == []
    store.ingest(1, updates(1))
    assert second.glance.status.rounds == 0


def test_losses_and_recoveries_are_counted(tmp_path: Path):
    with FLStore.local(functions=2, memory="64MiB", root=str(tmp_path)) as store, store.monitor(0.01) as monitor:
        assert (monitor.glance.lost, monitor.glance.joined) == (0, 0)
        faults.kill(store, "function-1")
        until(lambda: (monitor.glance.lost, monitor.glance.joined) == (1, 1))
        assert [line.split(" ", 1)[1] for line in monitor.glance.news] == ["function-1 was lost", "function-1 joined"]
        with faults.hang(store, "function-0"):
            until(lambda: monitor.glance.silent == {"function-0"})
            assert SILENT in html(monitor.glance)
        until(lambda: not monitor.glance.silent)


def test_a_look_that_takes_long_makes_the_next_one_come_later(store: FLStore, monkeypatch: pytest.MonkeyPatch):
    looks: list[float] = []
    look = Monitor._look

    def slow(monitor: Monitor, live: bool) -> Glance:
        looks.append(time.monotonic())
        busy = time.thread_time() + (0.02 if len(looks) > 1 else 0.0)
        while time.thread_time() < busy:
            pass
        return look(monitor, live)

    monkeypatch.setattr(Monitor, "_look", slow)
    monkeypatch.setattr(Monitor, "_changed", lambda monitor: True)
    with store.monitor(interval_s=0.001):
        until(lambda: len(looks) == 3)
    assert looks[2] - looks[1] >= 1.0  # 0.02 s at a hundredth: 2 s, whatever else the machine does


@pytest.mark.parametrize("interval_s", [0, -1.0, float("nan"), "1", True])
def test_an_interval_that_is_none_is_refused(store: FLStore, interval_s: object):
    with pytest.raises(InvalidParameterError, match="interval_s must be a positive number"):
        store.monitor(interval_s=interval_s)
    assert monitors() == []


def test_a_closed_store_is_not_watched(store: FLStore):
    store.close()
    with pytest.raises(StoreClosedError):
        store.monitor()


def test_without_ipywidgets_it_says_what_to_install(store: FLStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(OptionalDependencyError, match=r'pip install "flstore\[notebook\]"'):
        store.monitor()
    assert monitors() == []


FORGOTTEN = """
import threading
from flstore import FLStore
if __name__ == "__main__":
    store = FLStore.local(functions=1, memory="64MiB", root="memory://forgotten")
    monitor = store.monitor(interval_s=0.001)
    print("end")
"""


def test_it_does_not_outlive_the_interpreter(tmp_path: Path):
    script = tmp_path / "forgotten.py"
    script.write_text(FORGOTTEN)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "end"), done.stderr
    assert "monitor" not in done.stderr
    assert "Fatal" not in done.stderr


def test_a_saved_notebook_shows_the_last_view():
    cells = [
        "import numpy as np\nfrom flstore import FLStore\n"
        "store = FLStore.local(functions=1, memory='64MiB', root='memory://notebook')",
        "monitor = store.monitor(interval_s=0.01)\nmonitor",
        "store.ingest(1, {f'c{i}': {'w': np.ones(8)} for i in range(3)}).wait()\n"
        "answer = store.request('cosine_similarity', round=1)",
        "store.close()",
        "monitor",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    live: list[str] = []

    def note(cell: nbformat.NotebookNode, cell_index: int, **_: object) -> None:
        if cell_index == 1:
            live.extend(kind for output in cell.outputs for kind in output.get("data", {}))

    NotebookClient(notebook, timeout=120, kernel_name="python3", on_cell_executed=note).execute()
    assert "application/vnd.jupyter.widget-view+json" in live
    (output,) = notebook.cells[1].outputs  # drawn once, though the monitor was the cell's value
    assert "application/vnd.jupyter.widget-view+json" not in output.data
    assert "1 round, latest 1; 3 clients" in output.data["text/html"]
    assert "as it was at" in output.data["text/html"]
    (again,) = notebook.cells[4].outputs
    assert again.data["text/html"] == output.data["text/html"]
