"""The examples of CONTRIBUTING.md work as they are written."""

from __future__ import annotations

import importlib
import re
import textwrap
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flstore import policies, workloads
from flstore.codec import decode, encode
from flstore.parts import cut
from flstore.simulator import participation_trace, replay
from flstore.testing.policies import check_policy
from flstore.testing.workloads import check_workload
from flstore.types import Key, Kind, Part
from flstore.workloads.base import Inputs, Scope

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(path: str) -> str:
    """The code block that follows the name of a file."""
    found = re.search(rf"`{re.escape(path)}`:\n\n```python\n(.*?)```", TEXT, re.DOTALL)
    assert found, f"CONTRIBUTING.md has no {path}"
    return found[1]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Imports a file of CONTRIBUTING.md as a module of somebody else's package."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(path: str):
        name = "contributed_" + Path(path).stem
        (tmp_path / f"{name}.py").write_text(block(path), encoding="utf-8")
        return importlib.import_module(name)

    return load


def test_the_policy_keeps_the_newest_round(example):
    policy = example("flstore/policies/newest.py").Newest
    trace = participation_trace(clients=250, per_round=10, rounds=20, seed=0)
    requests = trace.assign(workload="clustering")
    posthoc = replay(requests, policy(), ingest="posthoc")
    assert (posthoc.hits, posthoc.misses) == (10, 190)
    assert replay(requests, policy()).resident_peak_bytes == 10


def test_the_policy_keeps_the_contract_as_written(example):
    snippet = re.search(r"```python\n( +from flstore\.testing\.policies import.*?)```", TEXT, re.DOTALL)
    assert snippet
    namespace: dict[str, Any] = {"Newest": example("flstore/policies/newest.py").Newest}
    exec(textwrap.dedent(snippet[1]), namespace)
    assert namespace["check_policy"] is check_policy


def test_the_policy_is_found_by_the_entry_point_as_written(example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    example("flstore/policies/newest.py")
    toml = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert toml
    ((group, points),) = tomllib.loads(textwrap.dedent(toml[1]))["project"]["entry-points"].items()
    ((name, path),) = points.items()
    package, module = path.split(":")[0].split(".")
    (tmp_path / package).mkdir()
    (tmp_path / package / f"{module}.py").write_text(block("flstore/policies/newest.py"), encoding="utf-8")
    info = tmp_path / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {path}\n", encoding="utf-8")
    assert policies.get(name).__module__ == f"{package}.{module}"
    trace = participation_trace(clients=250, per_round=10, rounds=20, seed=0)
    assert replay(trace.assign(workload="clustering"), name).hits == 200


def test_the_policys_replay_prints_what_it_says(example, capsys: pytest.CaptureFixture[str]):
    snippet = re.search(r"```python\n( +from flstore\.simulator import.*?)```", TEXT, re.DOTALL)
    assert snippet
    exec(textwrap.dedent(snippet[1]), {"Newest": example("flstore/policies/newest.py").Newest})
    printed = re.search(r"# (\d+ \d+):", snippet[1])
    assert printed
    assert capsys.readouterr().out.strip() == printed[1]


def test_the_workload_is_found_by_its_path_and_computes_norms(example):
    example("flstore/workloads/norms.py")
    cls = workloads.from_path("contributed_norms:Norms")
    scope = Scope(job="j", round=3)
    catalogue = SimpleNamespace(clients=lambda round: ["a", "b"])
    keys = cls().needs(scope, catalogue)
    assert keys == [Key("j", Kind.UPDATE, 3, "a"), Key("j", Kind.UPDATE, 3, "b")]
    tensors = {"w": np.array([[3.0, 0.0]], dtype=np.float32), "v": np.array([4.0], dtype=np.float32)}
    data = {key: decode(encode(key, {n: t * (i + 1) for n, t in tensors.items()})) for i, key in enumerate(keys)}
    found = cls().compute(Inputs(scope, data))
    assert found.clients == ["a", "b"]
    assert found.norms == [5.0, 10.0]


def test_the_additive_workload_answers_the_same_from_ranges(example):
    example("flstore/workloads/squares.py")
    cls = workloads.from_path("contributed_squares:Squares")
    check_workload(cls)
    scope = Scope(job="j", round=3)
    key = Key("j", Kind.UPDATE, 3, "a")
    update = decode(encode(key, {"w": np.array([[3.0, 0.0]], dtype=np.float32), "v": np.array([4.0, 1.0])}))
    parts = [cls().partial(Inputs(scope, {key: decode(cut(update, Part(i, 2)))})) for i in range(2)]
    assert [part["squares"].tolist() for part in parts] == [[25.0], [1.0]]
    assert cls().finish(scope, cls().combine(parts)).squares == [26.0]
