"""What an observed training leaves in a real store: over restarts, under secure aggregation, with bad input and a store
that fails.
"""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.errors import StoreError, UpdateNotFoundError
from flstore.federated import LocalGrid
from flstore.federated.flower import CLIENT_RECORD
from flstore.testing.faulty_fs import Fault, FaultPlan
from tests.federated.test_flower import CLIENTS, INITIAL, client_app, everyone, train
from tests.federated.test_flower_secure import fedavg, secure_training

SITES = [f"site-{i}" for i in range(CLIENTS)]


class Rounds:
    """Training round by round, as Flower's own loop does it."""

    def __init__(self, strategy: Any, app: Any = None) -> None:
        self.strategy, self.app = strategy, app or client_app()
        self.arrays = ArrayRecord({k: Array(v) for k, v in INITIAL.items()})

    def train(self, round: int) -> None:
        random.seed(round)  # Flower draws the order of the clients from it, and sums depend on the order
        with LocalGrid(self.app, CLIENTS) as grid:
            sent = self.strategy.configure_train(round, self.arrays, ConfigRecord({"lr": 0.1}), grid)
            arrays, _ = self.strategy.aggregate_train(round, grid.send_and_receive(sent))
            self.arrays = self.arrays if arrays is None else arrays


def test_who_a_node_was_is_known_after_a_restart(tmp_path: Path) -> None:
    with ObjStoreAgg(str(tmp_path)) as store:
        training = Rounds(store.observe(everyone()))
        training.train(1)
        store.flush()
        node = store.metadata(1)["node_id"].loc[1, "site-2"]
    silent = client_app(lambda client, round, content: content.pop(CLIENT_RECORD))
    with ObjStoreAgg(str(tmp_path)) as store:
        assert store.client_of(node) == "site-2"
        assert store.client_of("7") is None
        again = Rounds(store.observe(everyone()), silent)
        again.arrays = training.arrays
        again.train(2)
        store.flush()
        assert store.clients(2) == store.clients() == SITES


def test_secure_aggregation_is_told_of_by_this_process_and_a_later_one(tmp_path: Path) -> None:
    def check(store: Any) -> None:
        assert set(store.aggregate(2)) == {"0000"}
        assert store.metadata().shape[0] == 6
        told = "In round 1 no client showed a model of its own, as under secure aggregation"
        with pytest.raises(UpdateNotFoundError, match=told):
            store.update(1, "c1")
        with pytest.raises(UpdateNotFoundError, match=told):
            store.clients(1)
        for workload in ("clustering", "malicious_filtering", "cosine_similarity"):
            with pytest.raises(UpdateNotFoundError, match=told):
                store.request(workload, round=1)
        with pytest.raises(UpdateNotFoundError, match="In 2 rounds from 1 to 2 no client showed"):
            store.request("lineage", client="c1")

    with FLStore.local(functions=1, root=f"memory://secure-{tmp_path.name}", memory="64MiB") as live:
        with pytest.warns(RuntimeWarning, match="as under secure aggregation"):
            secure_training(live.observe(fedavg()))
        live.flush()
        check(live)
    with ObjStoreAgg(str(tmp_path)) as store, pytest.warns(RuntimeWarning, match="as under secure aggregation"):
        secure_training(store.observe(fedavg()))
    with ObjStoreAgg(str(tmp_path)) as later:
        check(later)
    with FLStore.attach(str(tmp_path)) as reader:
        check(reader)


def test_a_plain_round_says_nothing_of_it(tmp_path: Path) -> None:
    with ObjStoreAgg(str(tmp_path)) as store:
        Rounds(store.observe(everyone())).train(1)
        store.flush()
        with pytest.raises(UpdateNotFoundError) as raised:
            store.update(1, "nobody")
        assert "secure" not in str(raised.value)
        assert store.not_stored.empty
        assert list(store.not_stored.columns) == ["round", "client", "kind", "reason", "kept"]


@pytest.mark.filterwarnings("ignore:Not all of round", "ignore:client 'site-3' sent 1 values")
def test_a_client_unlike_the_others_is_listed_and_costs_nobody_else(tmp_path: Path) -> None:
    """Names in round 1, shapes in round 2 (of the client that comes first), NaN in all: kept, and said."""

    def change(client: int, round: int, content: RecordDict) -> None:
        own = content["arrays"]
        if client == 3:
            w = own["w"].numpy().copy()
            w[0, 0] = np.nan
            own["w"] = Array(w)
        if client == 0:
            content["arrays"] = ArrayRecord({"other": own["w"]} if round == 1 else {"w": Array(np.zeros(1))})

    class Everything(type(everyone())):
        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            return None, None

    with ObjStoreAgg(str(tmp_path)) as store:
        train(store.observe(everyone(Everything)), client_app(change), rounds=2)
        with pytest.raises(ValueError, match="a round has one architecture"):
            store.flush()
        assert store.clients(1) == store.clients(2) == SITES[1:]
        found = store.not_stored
        assert found[["round", "client", "kind", "kept"]].values.tolist() == [
            [1, "site-0", "update", False], [2, "site-0", "update", False],
        ]  # fmt: skip
        assert "has a tensor 'other', unlike client" in found["reason"][0]
        assert "one architecture" in store.metadata()["error"].loc[2, "site-0"]
        assert store.metadata()["nonfinite"].loc[1, "site-3"] == 1


def test_training_goes_on_while_the_store_fails_and_what_is_missing_is_listed(tmp_path: Path) -> None:
    plan, bare = FaultPlan(tmp_path / "plan"), Rounds(everyone())
    root = plan.url(tmp_path / "root")

    def run_all(store: ObjStoreAgg, observed: Rounds) -> None:
        observed.train(1)
        store.flush()
        with plan.stage(Fault("fail", "write")):
            observed.train(2)  # taken in, and waits in memory
            with pytest.raises(StoreError, match="kept in the write buffer"):
                store.flush()
            waiting = store.not_stored
            assert set(waiting["round"]) == {2}
            assert waiting["kept"].all()
            assert sorted(waiting["client"][waiting["kind"] == "update"]) == SITES
            observed.train(3)  # not taken in while that fails, and held
            with pytest.raises(StoreError):
                store.flush()
            held = store.not_stored
            assert set(held["round"]) == {2, 3}
            assert held["kept"].all()
            assert sorted(held["client"][(held["kind"] == "update") & (held["round"] == 3)]) == SITES
        observed.train(4)  # the store is back

    with ObjStoreAgg(root, storage_options=plan.storage_options) as store:
        observed = Rounds(store.observe(everyone()))
        with pytest.warns(RuntimeWarning, match="Not all of round 3 was recorded: StoreError"):
            run_all(store, observed)
        store.flush()
        assert store.not_stored.empty
    for r in (1, 2, 3, 4):
        bare.train(r)
    assert [a.data for a in observed.arrays.values()] == [a.data for a in bare.arrays.values()]
    with ObjStoreAgg(root, storage_options=plan.storage_options) as again:
        assert again.rounds() == [1, 2, 3, 4]
        assert all(again.clients(r) == SITES for r in again.rounds())
        assert len(again.metadata()) == 4 * CLIENTS
        np.testing.assert_array_equal(again.aggregate(4)["w"], bare.arrays["w"].numpy())
