"""The examples in the workloads' docstrings run as they stand."""

import doctest
import importlib

import pytest

MODULES = ["aggregation", "debugging", "scheduling_performance", "scheduling_similarity"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    outcome = doctest.testmod(importlib.import_module(f"flstore.workloads.{name}"), optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0
