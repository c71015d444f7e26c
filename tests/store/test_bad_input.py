"""What a person gets wrong: a clear error that names the value and the way out, and nothing is lost."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.errors import (
    CapacityError,
    InvalidIdError,
    InvalidParameterError,
    InvalidUpdateError,
    StoreClosedError,
    StoreError,
    UnknownNameError,
    UpdateExistsError,
    UpdateNotFoundError,
)
from tests.store.conftest import CLIENTS, fill, make_round


@pytest.fixture
def store() -> Any:
    """A store without processes: what is checked here happens before any function is asked."""
    with FLStore.local(functions=1, memory="16MiB", root=f"memory://bad-input-{os.urandom(4).hex()}") as store:
        fill(store, range(1, 4))
        yield store


def test_unknown_workload_suggests_the_nearest(store: FLStore) -> None:
    with pytest.raises(UnknownNameError, match=r"'clusterin'.*Did you mean 'clustering'\?.*hyperparameters"):
        store.request("clusterin", round=1)


def test_unknown_policy_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'tailored'\?.*lru"):
        FLStore.local(root=str(tmp_path), policy="tailord")


def test_unknown_parameter_names_the_known_ones(store: FLStore) -> None:
    with pytest.raises(InvalidParameterError, match=r"clusters.*k, of, seed"):
        store.request("clustering", round=1, clusters=3)


def test_a_round_that_does_not_exist_names_the_nearest(store: FLStore) -> None:
    with pytest.raises(UpdateNotFoundError, match=r"round 7.*nearest rounds: 1, 2, 3"):
        store.request("clustering", round=7)
    with pytest.raises(UpdateNotFoundError, match="nearest rounds"):
        store.clients(9)


def test_a_client_that_does_not_exist_names_those_that_do(store: FLStore) -> None:
    with pytest.raises(UpdateNotFoundError, match=r"'c9'.*c0, c1, c2"):
        store.request("lineage", client="c9")
    with pytest.raises(UpdateNotFoundError, match="clients of that round: c0, c1"):
        store.update(2, "zoe")
    with pytest.raises(UpdateNotFoundError, match="nearest rounds with one: 1, 2, 3"):
        store.aggregate(5)


def test_other_shapes_or_names_in_a_round_are_refused_whole(store: FLStore) -> None:
    good = make_round(4)
    for bad, words in [
        ({"w": np.zeros(3, "f4"), "seen": np.array(4)}, r"'w' as float32\[3\] instead of float32\[2000\]"),
        ({"weights": good["c0"]["w"], "seen": np.array(4)}, "no tensor 'w'|a tensor 'weights'"),
    ]:
        with pytest.raises(InvalidUpdateError, match=words) as caught:
            store.ingest(4, {**good, "odd": bad})
        assert "'odd'" in str(caught.value)
        assert 4 not in store.rounds()
    store.ingest(4, good)
    with pytest.raises(InvalidUpdateError, match="unlike client 'c0'"):
        store.ingest(4, {"late": {"w": np.zeros(3, "f4"), "seen": np.array(4)}})
    assert len(store.clients(4)) == CLIENTS


def test_a_round_that_an_earlier_process_began_keeps_its_architecture(tmp_path: Path) -> None:
    with FLStore.local(functions=1, memory="16MiB", root=str(tmp_path)) as first:
        first.ingest(1, {"a": {"w": np.zeros(4, "f4")}})
    with (
        FLStore.local(functions=1, memory="16MiB", root=str(tmp_path)) as second,
        pytest.raises(InvalidUpdateError, match="unlike client 'a'"),
    ):
        second.ingest(1, {"b": {"w": np.zeros(5, "f4")}})


def test_nan_is_accepted_flagged_and_found(store: FLStore) -> None:
    updates = make_round(4)
    updates["c2"]["w"] = np.where(np.arange(2000) < 7, np.nan, updates["c2"]["w"]).astype("f4")
    with pytest.warns(UserWarning, match="'c2' sent 7 values that are NaN or infinite in round 4"):
        store.ingest(4, updates)
    assert store.metadata(4)["nonfinite"].to_dict()[4, "c2"] == 7
    assert store.request("malicious_filtering", round=4).value.nonfinite == ["c2"]


@pytest.mark.parametrize("kwargs", [{}, {"metadata": {}}])
def test_an_empty_round_is_refused(store: FLStore, kwargs: dict[str, Any]) -> None:
    with pytest.raises(InvalidUpdateError, match="round 4 is empty"):
        store.ingest(4, {}, **kwargs)


@pytest.mark.parametrize("round", [-1, 1.5, "3", True, None])
def test_a_round_is_an_integer(store: FLStore, round: Any) -> None:
    with pytest.raises(InvalidParameterError, match="round must be an integer"):
        store.ingest(round, make_round(1))


def test_the_same_update_twice_is_one_and_another_one_is_refused(store: FLStore) -> None:
    receipt = store.ingest(2, make_round(2))
    assert receipt.clients == ()
    before = store.update(2, "c1")["w"].copy()
    changed = make_round(2)
    changed["c1"]["w"] = changed["c1"]["w"] + 1
    changed["new"] = changed["c0"]
    with pytest.raises(UpdateExistsError, match="another update of client 'c1' in round 2"):
        store.ingest(2, changed)
    np.testing.assert_array_equal(store.update(2, "c1")["w"], before)
    assert "new" not in store.clients(2)


def test_an_update_larger_than_a_function_is_persisted_and_named(tmp_path: Path) -> None:
    big = {"w": np.zeros(100_000, "f4")}
    with FLStore.local(functions=1, memory="256KiB", root=str(tmp_path)) as store:
        with pytest.raises(CapacityError, match=r"client 'big' in round 1.*has 400\d+ bytes.*memory="):
            store.ingest(1, {"big": big})
        store.flush()
        np.testing.assert_array_equal(store.update(1, "big")["w"], big["w"])
        with pytest.warns(RuntimeWarning, match="answered in the process of the store.*give the functions more memory"):
            answer = store.request("lineage", client="big")
        assert answer.value.rounds == [1]
        assert answer.record.functions[-1] == "this process"
    with FLStore.local(functions=1, memory="2MiB", root=str(tmp_path)) as store:
        assert store.request("lineage", client="big").value.rounds == [1]


@pytest.mark.parametrize("client", [".", "..", "../x", "a/b", "ü ñ", "a=b", "%2e%2e", "*", "-", "con"])
def test_odd_ids_work_and_stay_inside_the_root(tmp_path: Path, client: str) -> None:
    root = tmp_path / "deep" / "root"
    with FLStore.local(functions=1, memory="16MiB", root=str(root)) as store:
        store.ingest(1, {client: {"w": np.arange(3.0)}})
        store.flush()
        assert store.clients(1) == [client]
        np.testing.assert_array_equal(store.update(1, client)["w"], np.arange(3.0))
        assert store.request("lineage", client=client).value.rounds == [1]
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert files
    assert all(root in p.parents for p in files)
    with FLStore.local(functions=1, memory="16MiB", root=str(root)) as again:
        assert again.clients() == [client]


@pytest.mark.parametrize("client", ["", "x" * 300])
def test_ids_that_cannot_name_an_object_are_refused(store: FLStore, client: str) -> None:
    with pytest.raises(InvalidIdError):
        store.ingest(4, {**make_round(4), client: make_round(4)["c0"]})
    assert 4 not in store.rounds()


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(StoreError, match="file"):
        FLStore.local(root=str(blocker / "root"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"functions": 0}, "functions"),
        ({"memory": "much"}, "memory"),
        ({"memory": 10}, "at least"),
        ({"job": ""}, "job"),
    ],
)
def test_options_are_checked_before_anything_starts(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidParameterError, InvalidIdError), match=words):
        FLStore.local(root=str(tmp_path), **options)


def test_a_closed_store_says_so_and_still_shows_itself(store: FLStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreClosedError, match="open it again"):
        store.request("clustering", round=1)
    with pytest.raises(StoreClosedError):
        store.ingest(9, make_round(9))
    assert "closed" in repr(store)
    assert "closed" in store._repr_html_()


def test_a_workload_that_raises_reaches_the_caller_and_harms_none(store: FLStore) -> None:
    with pytest.raises(InvalidParameterError, match="k"):
        store.request("clustering", round=1, k=50)
    assert store.request("clustering", round=1, k=2).value.k == 2
