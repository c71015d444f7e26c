"""The examples in the docstrings of workloads run as they stand."""

import doctest
import importlib

import pytest

from flstore import workloads


@pytest.mark.parametrize("name", sorted(workloads.BUILT_IN))
def test_examples_run(name):
    pytest.importorskip("torch")
    module = importlib.import_module(workloads.BUILT_IN[name].partition(":")[0])
    tests = [test for test in doctest.DocTestFinder().find(module) if test.name.endswith(workloads.get(name).__name__)]
    assert sum(len(test.examples) for test in tests) > 0, "the class has no example"
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
