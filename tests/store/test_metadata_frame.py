"""One table of what is known of clients' work: the same first columns for every framework, all else as it came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from flstore.metadata_frame import frame
from flstore.persistence.tables import to_table
from flstore.types import Kind
from flstore.workloads._metadata import FIELDS
from tests.store.conftest import CLIENTS, fill, make_round

FLOWER = {"num-examples": 12, "train_loss": 0.5, "eval_loss": 0.25, "batch-size": 16, "epochs": 2, "lr": 0.1}


def one_round(rows: dict[str, dict[str, Any]], sizes: dict[str, int] | None = None) -> pd.DataFrame:
    return frame([(1, to_table(rows), sizes or {})])


def test_the_standard_columns_are_always_there_with_their_dtypes() -> None:
    for table in (frame([]), one_round({"a": {}}), one_round({"a": FLOWER})):
        assert list(table)[: len(FIELDS)] == list(FIELDS)
        kinds = {name: str(table[name].dtype) for name in FIELDS}
        counts = {"samples", "eval_samples", "bytes", "batch_size", "memory_bytes"}
        assert kinds == {n: "Int64" if n in counts else "boolean" if n == "available" else "float64" for n in FIELDS}
    assert one_round({"a": {}})[list(FIELDS)].isna().all(axis=None)


def test_names_of_frameworks_are_taken_in_and_stay() -> None:
    row = one_round({"a": FLOWER}).loc[(1, "a")]
    assert row[["samples", "loss", "eval_loss", "batch_size", "epochs", "lr"]].tolist() == [12, 0.5, 0.25, 16, 2, 0.1]
    assert row[["num-examples", "train_loss", "batch-size"]].tolist() == [12, 0.5, 16]
    table = one_round({"a": {"learning_rate": 1}, "b": {"lr": 0.5, "learning_rate": 9}})
    assert table["lr"].tolist() == [1.0, 0.5]
    assert table["learning_rate"].tolist() == [1, 9]


def test_a_namesake_that_says_something_else_is_kept_beside() -> None:
    table = one_round({"a": {"loss": "nan?", "samples": 2.5, "round": 7}, "b": {"loss": 2.0, "train_loss": 1.0}})
    assert table["loss"].tolist()[1] == 1.0
    assert np.isnan(table["loss"].iloc[0])
    assert table["samples"].isna().all()
    assert table["loss (given)"].tolist() == ["nan?", 2.0]
    assert table["samples (given)"].tolist()[0] == 2.5
    assert table["round (given)"].tolist()[0] == 7
    assert table.index.names == ["round", "client"]


def test_dtypes_across_rounds_and_gaps() -> None:
    first = {"a": {"n": 2**53 + 1, "f": 1, "ok": True, "mix": 1, "text": "x", "list": [1]}}
    second = {"a": {"f": 0.5, "mix": "1", "none": None}, "b": {"ok": False}}
    table = frame([(1, to_table(first), {}), (2, to_table(second), {})])
    assert table.index.tolist() == [(1, "a"), (2, "a"), (2, "b")]
    kinds = {name: str(table[name].dtype) for name in ("n", "f", "ok", "mix", "text")}
    assert kinds == {"n": "Int64", "f": "float64", "ok": "boolean", "mix": "object", "text": "str"}
    assert table["n"].iloc[0] == 2**53 + 1
    assert table["mix"].tolist()[:2] == [1, "1"]
    assert table["list"].tolist()[0] == [1]
    assert table["none"].isna().all()


def test_bytes_and_availability_where_nobody_says() -> None:
    rows = {"a": {"loss": 1.0}, "b": {"error": "gone"}, "c": {"eval_loss": 2.0}, "d": {"available": False, "bytes": 7}}
    table = one_round(rows, {"a": 100, "d": 200, "silent": 300})
    assert table.index.get_level_values("client").tolist() == ["a", "b", "c", "d", "silent"]
    assert table["bytes"].fillna(-1).tolist() == [100, -1, -1, 7, 300]
    assert [None if pd.isna(v) else bool(v) for v in table["available"]] == [True, False, None, False, True]


def test_payouts_are_entered_by_who_pays(open_store: Any) -> None:
    store = open_store()
    fill(store, range(1, 3))
    assert store.metadata()["payout"].isna().all()
    paid = {f"c{i}": 10.0 * i for i in range(CLIENTS)}
    store.ingest(2, {}, metadata={client: {"payout": tokens} for client, tokens in paid.items()})
    table = store.metadata(2)
    assert table["payout"].droplevel("round").to_dict() == paid
    assert (table["loss"].iloc[1], table["bytes"].gt(8000).all(), table["available"].all()) == (0.5, True, True)
    assert store.metadata(1)["payout"].isna().all()
    assert store.request("hyperparameters", round=2, last=1).value.columns["payout"] == list(paid.values())


@pytest.mark.parametrize(("options", "kept"), [({}, 10), ({"policy_options": {"rounds": 3}}, 3)])
def test_functions_hold_the_last_rounds_and_the_store_all(open_store: Any, options: Any, kept: int) -> None:
    store = open_store(**options)
    for r in range(1, 14):
        store.ingest(r, make_round(r, clients=1, size=4), metadata={"c0": {"lr": 1 / r}})
    store.flush()
    held = {key.round for keys in store.inventory().values() for key in keys if key.kind is Kind.METADATA}
    assert held == set(range(14 - kept, 14))
    assert store._window.rounds() == sorted(held)
    assert store.metadata()["lr"].tolist() == [1 / r for r in range(1, 14)]
    assert [found for _, _, _, found in store._objects.listing("default")] == [True] * 13
