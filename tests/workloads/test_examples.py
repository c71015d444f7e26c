"""The examples in the docstrings of workloads run as they stand."""

import doctest
import importlib

import pytest

MODULES = ["contribution", "incentives", "inference", "personalization"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    pytest.importorskip("torch")
    outcome = doctest.testmod(importlib.import_module(f"flstore.workloads.{name}"), optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0
