"""Every id names a file below the root, and the file names the id."""

from __future__ import annotations

import posixpath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flstore.errors import InvalidIdError, InvalidParameterError
from flstore.persistence import aggregate_path, metadata_path, object_path, parse_path
from flstore.persistence.layout import parse_job, parse_round
from flstore.types import Key, Kind

ids = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=16)


def test_the_paths() -> None:
    assert object_path(Key("j", Kind.UPDATE, 7, "c")) == "job=j/round=00000007/update/client=c.safetensors"
    assert (
        object_path(Key("j", Kind.AGGREGATE, 0))
        == aggregate_path("j", 0)
        == "job=j/round=00000000/aggregate.safetensors"
    )
    assert (
        object_path(Key("j", Kind.METADATA, 1, "c")) == metadata_path("j", 1) == "job=j/round=00000001/metadata.parquet"
    )


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        (".", "."),
        ("..", ".."),
        ("../x", "..%2Fx"),
        ("a/b", "a%2Fb"),
        ("ü", "%C3%BC"),
        ("a b%", "a%20b%25"),
        ("*", "%2A"),
    ],
)
def test_awkward_ids(name: str, encoded: str) -> None:
    path = object_path(Key(name, Kind.UPDATE, 1, name))
    assert path == f"job={encoded}/round=00000001/update/client={encoded}.safetensors"
    assert posixpath.normpath(path) == path
    assert parse_path(path) == Key(name, Kind.UPDATE, 1, name)


@settings(deadline=None)
@given(ids, ids, st.integers(0, 99_999_999))
def test_any_id_comes_back_and_stays_below_the_root(job: str, client: str, round: int) -> None:
    for key in (Key(job, Kind.UPDATE, round, client), Key(job, Kind.AGGREGATE, round), Key(job, Kind.METADATA, round)):
        path = object_path(key)
        assert parse_path(path) == key
        assert posixpath.normpath(f"/root/{path}") == f"/root/{path}"
        assert parse_job(path.split("/")[0]) == job
        assert parse_round(path.split("/")[1]) == round


@pytest.mark.parametrize("name", ["", "x" * 201, "ü" * 34, "\ud800", 7, None])
def test_ids_that_name_nothing(name: object) -> None:
    with pytest.raises(InvalidIdError):
        object_path(Key("j", Kind.UPDATE, 1, name))  # type: ignore[arg-type]
    with pytest.raises(InvalidIdError):
        object_path(Key(name, Kind.AGGREGATE, 1))  # type: ignore[arg-type]


def test_the_longest_id_is_two_hundred_bytes() -> None:
    key = Key("j", Kind.UPDATE, 1, "ü" * 33 + "xx")
    assert parse_path(object_path(key)) == key
    with pytest.raises(InvalidIdError, match="takes 201 bytes once percent-encoded; the limit is 200"):
        object_path(Key("j", Kind.UPDATE, 1, "ü" * 33 + "xxx"))


@pytest.mark.parametrize("round", [-1, 100_000_000, 1.0, "3", None, True])
def test_rounds_that_name_nothing(round: object) -> None:
    with pytest.raises(InvalidParameterError, match="round"):
        object_path(Key("j", Kind.AGGREGATE, round))  # type: ignore[arg-type]


def test_numpy_rounds() -> None:
    assert aggregate_path("j", np.int64(12)).endswith("round=00000012/aggregate.safetensors")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path",
    [
        "notes.txt",
        "job=j/round=7/aggregate.safetensors",
        "job=j/round=00000007/aggregate.safetensors.bak",
        "job=j/round=00000007/update/.f00.tmp",
        "job=j/round=00000007/update/client=.safetensors",
        "job=j/round=00000007/update/client=a b.safetensors",
        "job=j/round=00000007/update/client=%2fa.safetensors",
        "job=j/round=00000007/update/x/client=a.safetensors",
        "job=/round=00000007/aggregate.safetensors",
        "x/job=j/round=00000007/aggregate.safetensors",
    ],
)
def test_files_of_others_have_no_key(path: str) -> None:
    assert parse_path(path) is None


def test_folders_of_others() -> None:
    assert [parse_job(name) for name in ("j", "job=", "job=a b", "lost+found")] == [None] * 4
    assert [parse_round(name) for name in ("round=7", "round=000000007", "7", "round=0000000x")] == [None] * 4
