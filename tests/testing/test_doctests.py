"""The examples of the package run as they stand."""

import doctest
import importlib

import pytest

MODULES = ["", ".faults", ".faulty_fs", ".policies", ".sample_job", ".stores", ".workloads"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(f"flstore.testing{name}")
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    assert outcome.attempted > 0
    assert outcome.failed == 0
