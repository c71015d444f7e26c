"""Every workload shows an example; that they run is tested with those of all modules."""

import doctest
import importlib

import pytest

from flstore import workloads


@pytest.mark.parametrize("name", sorted(workloads.BUILT_IN))
def test_the_class_has_an_example(name: str) -> None:
    pytest.importorskip("torch")
    module = importlib.import_module(workloads.BUILT_IN[name].partition(":")[0])
    tests = [test for test in doctest.DocTestFinder().find(module) if test.name.endswith(workloads.get(name).__name__)]
    assert sum(len(test.examples) for test in tests) > 0
