"""The README's Python runs as it stands, and what it names is there."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from experiments.claims import read_claims
from flstore.reproduction import Ledger

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


@pytest.mark.parametrize("block", [b for b in BLOCKS if "import" in b])
def test_a_block_runs_in_an_empty_directory(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    if "print" in block:
        assert "latency_s" in printed.getvalue()


def test_the_table_3_figure_is_what_the_replay_gives() -> None:
    from flstore.simulator import participation_trace, replay

    (claimed,) = re.findall(r"# (\d+) hits, (\d+) miss", TEXT)
    trace = participation_trace(clients=250, per_round=10, rounds=2000, seed=0)
    outcome = replay(trace.assign(workload="clustering"), "tailored")
    assert (outcome.hits, outcome.misses) == tuple(int(n) for n in claimed)


def test_links_and_pictures_lead_somewhere() -> None:
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", TEXT) if not t.startswith("http")]
    assert targets
    for target in targets:
        assert (README.parent / target).exists(), target


def test_the_verdicts_are_those_of_the_committed_ledger() -> None:
    counts = Ledger.read("laptop").counts().to_dict()
    assert counts == {verdict: int(n) for verdict, n in re.findall(r"^\| ([a-z ]+) \| (\d+) \|$", TEXT, re.MULTILINE)}
    assert sum(counts.values()) == len(read_claims())
