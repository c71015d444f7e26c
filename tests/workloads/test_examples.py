"""The examples in the docstrings of workloads run as they stand."""

import doctest
import importlib

import pytest

MODULES = [
    "aggregation", "contribution", "debugging", "incentives", "inference", "personalization", "scheduling_performance",
    "scheduling_similarity",
]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    pytest.importorskip("torch")
    outcome = doctest.testmod(importlib.import_module(f"flstore.workloads.{name}"), optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0
