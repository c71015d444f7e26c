"""Policies of other packages, found by their entry points: packages that are installed as pip installs them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from flstore import FLStore, policies
from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.simulator import participation_trace, replay
from flstore.testing.policies import check_policy
from tests.store.conftest import fill

MODULE = '''
"""Keeps the newest round."""
from flstore.policies import P2, Policy
from flstore.types import Ingested, Kind, Unwant, Want

class Newest(Policy):
    name = "acme-newest"

    def __init__(self, owner="acme"):
        self.owner = owner

    def decide(self, event, view):
        if isinstance(event, Ingested) and event.keys.kind is Kind.UPDATE:
            yield Unwant(self.owner)
            yield Want(self.owner, event.keys)

class Thief(P2):
    name = "p2"

class Alias(Newest):
    pass

nothing = 3
'''


def install(site: Path, points: dict[str, str], package: str = "acme", module: str = MODULE) -> None:
    """What is left on disk after ``pip install``: the module and its dist-info."""
    (site / f"{package}_policies.py").write_text(textwrap.dedent(module), encoding="utf-8")
    info = site / f"{package}_policies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}-policies\nVersion: 1.0\n", encoding="utf-8")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[flstore.policies]\n{lines}", encoding="utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("acme_", "other_"))]:
        del sys.modules[name]


def test_a_policy_of_an_installed_package_is_used_by_its_name(site: Path, tmp_path_factory: pytest.TempPathFactory):
    with pytest.raises(UnknownNameError):
        policies.get("acme-newest")
    install(site, {"acme-newest": "acme_policies:Newest"})
    assert "acme_policies" not in sys.modules
    assert policies.names()[-1] == "acme-newest"
    assert "acme_policies" not in sys.modules  # named, and not imported yet
    check_policy(policies.get("acme-newest"))
    assert policies.make("acme-newest", owner="o").owner == "o"
    with pytest.raises(InvalidParameterError, match="'acme-newest' has no parameter 'size'; it has: owner"):
        policies.make("acme-newest", size=1)
    with pytest.raises(UnknownNameError, match="Did you mean 'acme-newest'"):
        policies.get("acme-newst")

    trace = participation_trace(clients=20, per_round=4, rounds=5, seed=0).assign(workload="clustering")
    assert replay(trace, "acme-newest").hits == 20

    root = str(tmp_path_factory.mktemp("root"))
    with FLStore.local(functions=1, memory="64MiB", root=root, policy="acme-newest") as store:
        fill(store, range(1, 4))
        assert store.request("cosine_similarity", round=2).record.misses == 6
        assert store.request("cosine_similarity", round=3).record.misses == 1  # the aggregate
        assert store.status().policy == "acme-newest"


def test_importing_flstore_looks_at_no_package(site: Path):
    install(site, {"acme-newest": "acme_policies:Newest"}, module="raise RuntimeError('imported')")
    code = (
        "import flstore.policies; print(flstore.policies.make('lru').name, 'acme-newest' in flstore.policies.names())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True,
                          env={"PYTHONPATH": f"{site}:."}, check=True)  # fmt: skip
    assert done.stdout.split() == ["lru", "True"]


@pytest.mark.parametrize(
    ("points", "name", "said"),
    [
        ({"gone": "acme_policies:Gone"}, "gone", "AttributeError"),
        ({"gone": "acme_gone:Newest"}, "gone", "No module named 'acme_gone'"),
        ({"three": "acme_policies:nothing"}, "three", "is not a Policy subclass with a name"),
        ({"another": "acme_policies:Alias"}, "another", "calls itself 'acme-newest'"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_package(site: Path, points: dict[str, str], name: str, said: str):
    install(site, points)
    with pytest.raises(InvalidParameterError) as caught:
        policies.get(name)
    assert f"the policy {name!r} of the package 'acme-policies' ({points[name]})" in str(caught.value)
    assert said in str(caught.value)
    assert policies.get("lru").name == "lru"  # nobody else is hindered


def test_a_package_that_fails_is_named_with_what_it_said(site: Path):
    install(site, {"acme-newest": "acme_policies:Newest"}, module="raise RuntimeError('no licence')")
    with pytest.raises(InvalidParameterError, match=r"'acme-policies'.*cannot be imported.*no licence"):
        policies.make("acme-newest")


def test_built_in_and_registered_names_go_before(site: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(policies, "_POLICIES", dict(policies._POLICIES))
    install(site, {"p2": "acme_policies:Thief", "acme-newest": "acme_policies:Newest"})
    assert policies.get("p2") is policies.P2
    assert policies.names().count("p2") == 1
    mine = type("Mine", (policies.P2,), {"name": "acme-newest"})
    policies.register(mine)
    assert policies.get("acme-newest") is mine
    assert policies.names().count("acme-newest") == 1
