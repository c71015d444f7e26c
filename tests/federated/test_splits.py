"""Every way to split is a partition of all samples, and the same for equal seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flstore.errors import InvalidParameterError, UnknownNameError
from flstore.federated import dirichlet_partition, iid_partition, partition, shard_partition
from flstore.federated.splits import SPLITS

LABELS = np.repeat(np.arange(10), 100)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, Any]]:
    """Labels, and arguments that they are enough for."""
    labels = np.array(draw(st.lists(st.integers(0, 5), min_size=1, max_size=80)))
    partitions = draw(st.integers(1, len(labels)))
    room = len(labels) // partitions
    return labels, {
        "partitions": partitions,
        "min_size": draw(st.integers(0, min(5, room))),
        "shards": draw(st.integers(1, min(4, room))),
        "alpha": draw(st.floats(0.01, 100)),
        "seed": draw(st.integers(0, 2**32)),
    }


@pytest.mark.parametrize("split", SPLITS)
@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_a_split_holds_every_sample_once_and_none_is_too_small(split: str, case: tuple[np.ndarray, dict[str, Any]]):
    labels, arguments = case
    parts = partition(labels, split=split, **arguments)
    assert len(parts) == arguments["partitions"]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert min(map(len, parts)) >= arguments["min_size"]
    assert all(part.dtype == np.int64 and np.all(np.diff(part) > 0) for part in parts)
    again = partition(labels, split=split, **arguments)
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))


@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_even_splits_differ_by_one_sample_a_piece(case: tuple[np.ndarray, dict[str, Any]]):
    labels, a = case
    sizes = [len(p) for p in iid_partition(labels, a["partitions"], a["seed"], min_size=0)]
    assert max(sizes) - min(sizes) <= 1
    shards = [len(p) for p in shard_partition(labels, a["partitions"], a["shards"], a["seed"], min_size=0)]
    assert max(shards) - min(shards) <= a["shards"]


@pytest.mark.parametrize("split", SPLITS)
def test_another_seed_is_another_split(split: str):
    one, other = (partition(LABELS, 5, split, seed=s) for s in (1, 2))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def classes(parts: list[np.ndarray]) -> list[int]:
    return [len(np.unique(LABELS[p])) for p in parts]


def test_small_alpha_separates_the_classes():
    assert np.mean(classes(dirichlet_partition(LABELS, 10, 100.0, seed=0))) == 10
    assert np.mean(classes(dirichlet_partition(LABELS, 10, 0.05, seed=0))) < 4


def test_shards_are_of_one_class_and_iid_has_all():
    parts = shard_partition(LABELS, 50, shards=2, seed=0)
    assert max(classes(parts)) == 2
    assert {len(p) for p in parts} == {20}
    assert any(not np.array_equal(np.sort(LABELS[parts[0]]), np.sort(LABELS[p])) for p in parts)
    assert min(classes(iid_partition(LABELS, 10))) == 10


@pytest.mark.parametrize(
    ("split", "bad"),
    [
        ("dirichlet", {"partitions": 0}),
        ("dirichlet", {"alpha": 0.0}),
        ("dirichlet", {"alpha": float("inf")}),
        ("dirichlet", {"min_size": -1}),
        ("shard", {"shards": 0}),
        ("shard", {"partitions": 0}),
        ("iid", {"partitions": 0}),
    ],
)
def test_out_of_range(split: str, bad: dict[str, Any]):
    with pytest.raises(InvalidParameterError, match=f"{next(iter(bad))}="):
        partition(LABELS, **{"partitions": 2, "split": split, **bad})


def test_too_few_samples_and_unknown_names():
    with pytest.raises(InvalidParameterError, match="600 partitions of at least 2 need 1200 samples, there are 1000"):
        partition(LABELS, 600, "iid")
    with pytest.raises(InvalidParameterError, match="200 partitions of at least 6 need 1200"):
        shard_partition(LABELS, 200, shards=6)
    with pytest.raises(UnknownNameError, match="Did you mean 'shard'"):
        partition(LABELS, 2, "shards")
