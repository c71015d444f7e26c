"""Workloads by name, and the contract that every one of them keeps."""

import dataclasses
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from flstore import workloads
from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.policies.taxonomy import CLASS_OF
from flstore.types import PolicyClass
from flstore.workloads import Workload, by_path, from_path, get, make, names, register

MODULE = """
    from dataclasses import dataclass
    from flstore.types import Kind, Key, PolicyClass
    from flstore.workloads import Workload, register

    @dataclass(frozen=True)
    class Count:
        clients: int

    @register
    @dataclass(frozen=True)
    class CountClients(Workload):
        name = "count_clients"
        policy_class = PolicyClass.P2
        result_type = Count

        least: int
        def needs(self, scope, catalogue):
            return [Key(scope.job, Kind.UPDATE, scope.round, c) for c in catalogue.clients(scope.round)]

        def compute(self, inputs):
            return Count(max(self.least, len(inputs.updates(inputs.scope.round))))

    class NotFrozen(CountClients):
        name = "not_frozen"
"""


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    (tmp_path / "their_workloads.py").write_text(textwrap.dedent(MODULE))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(workloads, "_registered", {})
    yield "their_workloads:CountClients"
    sys.modules.pop("their_workloads", None)


def plain(value):
    """Whether a value crosses from a function to its caller without pickle."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return type(value) in (type(None), bool, int, float, str)


def test_names_are_sorted_and_hold_the_built_in_ones():
    assert names() == sorted(names())
    assert set(names()) >= {"clustering", "cosine_similarity", "hyperparameters", "lineage", "malicious_filtering"}


@pytest.mark.parametrize("name", sorted(workloads.BUILT_IN))
def test_contract(name):
    cls = get(name)
    assert issubclass(cls, Workload)
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert cls.name == name
    assert cls.policy_class is CLASS_OF[name]
    assert dataclasses.is_dataclass(cls.result_type)
    assert cls.result_type.__doc__
    assert f"(class {cls.policy_class})" in cls.__doc__
    assert from_path(by_path(cls)) is cls


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("clustering", {"round": 2}),
        ("cosine_similarity", {"round": 2}),
        ("malicious_filtering", {"round": 2}),
        ("lineage", {"client": "a"}),
        ("hyperparameters", {}),
    ],
)
def test_results_and_parameters_are_plain_values_and_inputs_stay_as_they_are(job, random, name, scope):
    for round in (1, 2):
        updates = {c: {"w": random.normal(size=50).astype(np.float32)} for c in "abcde"}
        job.add(round, updates, aggregate=updates["a"], metadata={"a": {"lr": 0.1}})
    before = {key: value.checksum for key, value in job.data.items() if hasattr(value, "checksum")}
    workload = make(name)
    result = job.ask(workload, **scope)
    values = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    assert type(result) is type(workload).result_type
    assert {field: value for field, value in values.items() if not plain(value)} == {}
    again = type(result)(**values)
    assert again.frame().equals(result.frame())
    assert make(name, **dataclasses.asdict(workload)) == workload
    assert {key: job.data[key].checksum for key in before} == before


def test_parameters_survive_lists_in_place_of_tuples():
    assert make("clustering", k=2, initial=["b", "a"]) == make("clustering", k=2, initial=("b", "a"))
    assert hash(make("clustering", k=2, initial=["b", "a"])) is not None


def test_unknown_names_and_parameters_name_what_exists():
    with pytest.raises(UnknownNameError, match=r"'clustring'.*Did you mean 'clustering'"):
        get("clustring")
    with pytest.raises(InvalidParameterError, match=r"clustering has no parameter 'clusters'; its parameters: k, of"):
        make("clustering", clusters=3)
    with pytest.raises(InvalidParameterError, match="threshold"):
        make("malicious_filtering", threshold="high")
    with pytest.raises(InvalidParameterError, match="finite number above 0"):
        make("malicious_filtering", threshold=float("nan"))


def test_a_third_party_registers_by_path_or_as_a_decorator(third_party, job):
    assert "count_clients" not in names()
    cls = register(third_party)
    assert "count_clients" in names()
    assert get("count_clients") is cls
    assert by_path(cls) == third_party
    with pytest.raises(InvalidParameterError, match="count_clients needs 'least'"):
        make("count_clients")
    job.add(1, {c: {"w": np.ones(1)} for c in "abc"})
    assert job.ask(make("count_clients", least=2), round=1).clients == 3


def test_an_entry_point_is_found_without_registering(third_party, tmp_path):
    info = tmp_path / "their_workloads-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_workloads\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[flstore.workloads]\ncount_clients = {third_party}\n")
    assert "count_clients" in names()
    assert by_path(get("count_clients")) == third_party


def test_names_cannot_be_taken_over(third_party):
    cls = register(third_party)
    other = dataclasses.make_dataclass("Other", [], bases=(cls,), frozen=True, namespace={"name": "clustering"})
    other.__module__ = "their_workloads"
    with pytest.raises(
        InvalidParameterError, match=r"'clustering'.*taken by flstore\.workloads\.clustering:Clustering"
    ):
        register(other)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("their_workloads", "no import path"),
        ("their_workloads:Absent", "cannot be imported"),
        ("no_such_module:Thing", "on the Python path of every cache function"),
        ("their_workloads:Count", "not a subclass"),
        ("flstore.workloads:Workload", "lacks name"),
        ("..relative:Thing", "cannot be imported"),
    ],
)
def test_paths_that_lead_to_no_workload(third_party, path, message):
    with pytest.raises(InvalidParameterError, match=message):
        from_path(path)


def test_classes_that_other_processes_cannot_import_are_refused(third_party):
    @dataclasses.dataclass(frozen=True)
    class Local(Workload):
        name = "local"
        policy_class = PolicyClass.P2
        result_type = dict

        def needs(self, scope, catalogue):
            return []

        def compute(self, inputs):
            return {}

    with pytest.raises(InvalidParameterError, match=r"defined in a function.*put it at the top level of a module"):
        register(Local)
    script = textwrap.dedent(MODULE)
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "InvalidParameterError: CountClients is defined in a notebook or script" in run.stderr


def test_importing_the_registry_imports_no_workload_and_nothing_heavy():
    heavy = ["sklearn", "torch", "pandas", "scipy", "matplotlib", "seaborn", "distributed", "flwr"]
    heavy += [path.partition(":")[0] for path in workloads.BUILT_IN.values()]
    code = f"import sys, flstore.workloads as w; w.names(); print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
