"""Every built-in network can be judged by its import path."""

from __future__ import annotations

import numpy as np
import pytest

from flstore.federated import MODELS, build, digits, state_arrays, tasks
from flstore.workloads._imports import call_path


@pytest.mark.parametrize("model", MODELS)
def test_each_network_has_a_factory_of_its_name(model: str):
    made = state_arrays(call_path("task", "model", f"flstore.federated.tasks:{model}"))
    assert {name: array.shape for name, array in made.items()} == {
        name: array.shape for name, array in state_arrays(build(model)).items()
    }


def test_the_data_is_what_no_client_has():
    x, y = call_path("task", "data", "flstore.federated.tasks:held_out")
    assert x is tasks.held_out()[0]
    assert np.array_equal(x, digits(10).test_images)
    assert len(x) == len(y) == 360
