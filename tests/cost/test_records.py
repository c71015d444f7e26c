"""What real systems record is what their cost is computed from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.cost import Scale, price, summary
from flstore.metadata_window import PLACE
from tests.store.conftest import CLIENTS, fill

MEMORY = 64 << 20


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The same two requests, the first of them a miss, asked of two systems."""
    root = str(tmp_path_factory.mktemp("root"))
    with FLStore.local(functions=1, memory=MEMORY, root=root) as store:
        fill(store, range(1, 4))
        store.flush()
        with ObjStoreAgg(root) as baseline:
            for system in (store, baseline):
                for round in (1, 2):
                    system.request("clustering", round=round, k=2)
                    system.flush()
                system.request("hyperparameters", round=2)
            return {"FLStore": store.requests, "ObjStore-Agg": baseline.requests}


def test_an_aggregator_fetches_every_object_every_time(records: dict[str, pd.DataFrame]) -> None:
    found = records["ObjStore-Agg"]
    assert found["operations"].tolist()[:2] == [CLIENTS + 1, CLIENTS + 1]
    assert (found["bytes_moved"] > 0).all()
    assert (found["memory_bytes"] == 0).all()


def test_a_function_fetches_what_it_misses_and_says_what_memory_it_has(records: dict[str, pd.DataFrame]) -> None:
    found = records["FLStore"]
    assert found["misses"].tolist() == [CLIENTS + 1, 0, 0]
    assert found["operations"].tolist()[1:] == [0, 0]
    # A load that was done before the function was asked is not waited for, and then not counted either.
    assert 0 < found["operations"].iloc[0] <= CLIENTS + 1
    assert ((found["operations"] > 0) == (found["bytes_moved"] > 0)).all()
    assert found["functions"].iloc[2] == PLACE
    assert found["memory_bytes"].tolist() == [MEMORY, MEMORY, 0]  # the process of the store is not billed


def test_records_of_both_are_priced_in_one_table(records: dict[str, pd.DataFrame]) -> None:
    assert records["FLStore"].columns.tolist() == records["ObjStore-Agg"].columns.tolist()
    priced = price(pd.concat(records.values()))
    held = priced[(priced["system"] == "FLStore") & (priced["bytes_moved"] == 0)]
    fetched = priced[(priced["system"] == "ObjStore-Agg")]
    assert len(held) == 2
    assert held["modelled_cost_usd"].max() < fetched["modelled_cost_usd"].min()
    found: Any = summary(priced, hours=1, scale=Scale(functions=1)).frame()
    assert found["requests"].tolist() == [3, 3]


def test_a_round_in_parts_counts_the_memory_of_all_functions(tmp_path: Path) -> None:
    """Functions hold a share each of what none of them could hold."""
    import numpy as np

    updates = {f"c{i}": {"w": np.full(60_000, float(i), "f4")} for i in range(8)}
    with FLStore.local(functions=4, memory="1MiB", root=str(tmp_path / "root")) as store:
        store.ingest(0, {}, aggregate={"w": np.zeros(60_000, "f4")})
        store.ingest(1, updates)
        store.flush()
        record = store.request("cosine_similarity", round=1).record
    assert record.memory_bytes == len(set(record.functions)) << 20
    assert record.memory_bytes > 1 << 20
    assert record.operations > 0
