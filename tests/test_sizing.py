"""The function sizes of section 5.1, and what is said about sizes that are none."""

from pathlib import Path

import numpy as np
import psutil
import pytest

from flstore import FLStore
from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.federated.models import MODELS
from flstore.sizing import DEFAULT, LARGE, SIZES, SMALL, function_size


def test_the_table_is_that_of_the_paper():
    assert set(SIZES) == set(MODELS)
    assert {m for m, size in SIZES.items() if (size.cores, size.memory_bytes) == (2, 4 * 2**30)} == {
        "swin_v2_t",
        "efficientnet_v2_s",
    }
    assert {m for m, size in SIZES.items() if (size.cores, size.memory_bytes) == (1, 2 * 2**30)} == {
        "resnet18",
        "mobilenet_v3_small",
    }


@pytest.mark.parametrize(
    ("stored", "size"), [(0, DEFAULT), (6_200_000, SMALL), (46_800_000, SMALL), (86_000_000, LARGE)]
)
def test_without_a_name_the_stored_updates_tell(stored: int, size: object):
    assert function_size(None, None, stored) == size
    assert function_size(None, "resnet18", stored) == SMALL


def test_what_is_asked_for_counts_and_a_small_machine_gives_less():
    assert function_size("1GiB", "swin_v2_t").memory_bytes == 2**30
    many = function_size(None, None, functions=1000)
    assert many.memory_bytes * 1000 < psutil.virtual_memory().total


@pytest.mark.parametrize("memory", ["lots", -1, 10, ()])
def test_what_is_no_size_is_named(memory: object):
    with pytest.raises(InvalidParameterError, match="memory"):
        function_size(memory, None)  # type: ignore[arg-type]


def test_an_unknown_model_is_named_before_anything_starts(tmp_path: Path):
    with pytest.raises(UnknownNameError, match="resnet18"):
        FLStore.local(root=str(tmp_path / "root"), model="resnet81")
    assert not (tmp_path / "root").exists()


def test_a_store_sizes_its_functions_by_what_it_finds(tmp_path: Path):
    root = str(tmp_path / "root")
    with FLStore.local(functions=1, root=root, memory="64MiB") as store:
        store.ingest(1, {"a": {"w": np.zeros(10, np.float32)}})
    with FLStore.local(functions=1, root=root) as store:
        (function,) = store.status().functions
        assert function.capacity_bytes == 0.75 * 2 * 2**30
