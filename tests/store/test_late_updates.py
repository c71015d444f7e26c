"""A round closes with its aggregate or by hand; what comes later is kept, and marked."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.errors import ReaderError, UpdateNotFoundError
from tests.store.conftest import make_aggregate, make_round


def late(store: Any) -> dict[tuple[int, str], int]:
    """The staleness of every update that is marked late."""
    frame = store.metadata()
    if "late" not in frame:
        return {}
    marked = frame[frame["late"].eq(True)]
    return {(int(r), str(c)): int(s) for (r, c), s in marked["staleness"].items()}


@pytest.fixture
def store(tmp_path: Any) -> Any:
    with ObjStoreAgg(str(tmp_path)) as found:
        yield found


def test_what_comes_before_the_aggregate_or_with_it_is_in_time(store: ObjStoreAgg):
    store.ingest(0, {}, make_aggregate(0))
    sent = make_round(1)
    store.ingest(1, {"c0": sent["c0"]})
    store.ingest(1, {"c1": sent["c1"]}, make_aggregate(1))
    assert "late" not in store.metadata()
    assert store.closed_rounds() == [0, 1]


@pytest.mark.parametrize("copy", [True, False])
def test_what_comes_after_the_aggregate_is_kept_and_marked(store: ObjStoreAgg, copy: bool):
    sent = make_round(1)
    for r in range(4):
        store.ingest(r, {"c0": make_round(r)["c0"]} if r else {}, make_aggregate(r), copy=copy)
    store.ingest(1, {"c1": sent["c1"]}, metadata={"c1": {"loss": 0.5}}, copy=copy)
    store.ingest(3, {"c2": make_round(3)["c2"]}, copy=copy)
    assert late(store) == {(1, "c1"): 3, (3, "c2"): 1}
    frame = store.metadata()
    assert frame.loc[(1, "c1"), "loss"] == 0.5
    assert pd.isna(frame.loc[(1, "c0"), "late"])
    assert store.request("cosine_similarity", round=1).value.clients == ["c0", "c1"]


def test_the_same_update_again_and_metadata_alone_are_not_late(store: ObjStoreAgg):
    store.ingest(1, make_round(1), make_aggregate(1))
    store.ingest(1, make_round(1), metadata={"c0": {"accuracy": 0.5}, "c9": {"error": "gone"}})
    assert late(store) == {}


def test_who_says_otherwise_is_believed(store: ObjStoreAgg):
    store.ingest(1, {}, make_aggregate(1))
    store.ingest(1, {"c0": make_round(1)["c0"]}, metadata={"c0": {"late": False, "staleness": 0}})
    assert late(store) == {}


def test_a_round_without_an_aggregate_is_closed_by_hand_for_good(tmp_path: Any):
    sent = make_round(2)
    with ObjStoreAgg(str(tmp_path)) as store:
        store.ingest(2, {"c0": sent["c0"]})
        store.close_round(2)
        store.close_round(2)
        store.ingest(2, {"c1": sent["c1"]})
        assert store.closed_rounds() == [2]
    with ObjStoreAgg(str(tmp_path)) as store:
        assert store.closed_rounds() == [2]
        store.ingest(2, {"c2": sent["c2"]})
        assert late(store) == {(2, "c1"): 1, (2, "c2"): 1}


def test_a_round_of_which_only_failures_are_known_can_be_closed_and_an_unknown_one_cannot(store: ObjStoreAgg):
    store.ingest(1, make_round(1))
    store.ingest(2, {}, metadata={"c0": {"error": "timeout"}})
    store.close_round(2)
    assert store.closed_rounds() == [2]
    with pytest.raises(UpdateNotFoundError, match="nearest rounds: 1"):
        store.close_round(7)


def test_a_round_that_was_deleted_is_open_again(store: ObjStoreAgg):
    store.ingest(1, make_round(1))
    store.ingest(2, make_round(2))
    store.close_round(1)
    store.delete(rounds=[1], progress=False)
    assert store.closed_rounds() == []
    store.ingest(1, make_round(1))
    assert late(store) == {}


def test_flstore_decides_about_late_updates_as_about_others_and_readers_see_them(open_store: Any):
    store: FLStore = open_store()
    store.ingest(0, {}, make_aggregate(0))
    store.ingest(1, make_round(1, clients=3), make_aggregate(1))
    store.request("clustering", round=1, k=2)
    store.ingest(1, {"c3": make_round(1)["c3"]})
    store.flush()
    answer = store.request("clustering", round=1, k=2)
    assert answer.value.clients == ["c0", "c1", "c2", "c3"]
    assert answer.record.misses == 0
    with FLStore.attach(store.root) as reader:
        assert late(reader) == {(1, "c3"): 1}
        assert reader.closed_rounds() == [0, 1]
        with pytest.raises(ReaderError):
            reader.close_round(1)
