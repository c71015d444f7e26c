"""What a store remembers of recent rounds is bounded, and nothing is forgotten that is nowhere else."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.errors import InvalidUpdateError, RequestTimeoutError
from flstore.system import RECENT_ROUNDS
from flstore.testing.faulty_fs import Fault, FaultPlan
from tests.store.conftest import make_round
from tests.store.odd_workloads import WaitsForFile


def test_metadata_that_is_not_durable_is_not_forgotten(tmp_path: Path) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    options: dict[str, Any] = {"storage_options": plan.storage_options, "memory": "64MiB", "policy": "lru"}
    with FLStore.local(functions=1, root=plan.url(tmp_path / "root"), **options) as store:
        with plan.stage(Fault("stall", "write", match="*metadata.parquet")):
            for r in range(1, RECENT_ROUNDS + 4):
                store.ingest(r, {}, metadata={"c": {"lr": float(r)}})
            frame = store.request("hyperparameters", rounds=[1, RECENT_ROUNDS]).value.frame()
            assert frame["lr"].tolist() == [1.0, float(RECENT_ROUNDS)]
        store.flush()
        for r in range(100, 104):
            store.ingest(r, {}, metadata={"c": {"lr": float(r)}})
        assert len(store._rows) <= RECENT_ROUNDS + 4, "what is durable is forgotten again"


def test_the_shapes_of_old_rounds_are_forgotten_and_found_again() -> None:
    with ObjStoreAgg(f"memory://recent-{os.urandom(4).hex()}") as system:
        for r in range(1, RECENT_ROUNDS + 9):
            system.ingest(r, make_round(r, clients=1, size=4))
        assert len(system._signatures) == RECENT_ROUNDS
        with pytest.raises(InvalidUpdateError, match="unlike client 'c0' of the same round"):
            system.ingest(1, {"late": {"w": np.zeros(3, "f4"), "seen": np.array(1)}})
        system.ingest(1, {"late": make_round(1, clients=1, size=4)["c0"]})


def test_the_baseline_keeps_deadlines_too(tmp_path: Path) -> None:
    with ObjStoreAgg(str(tmp_path / "root")) as system:
        system.ingest(1, make_round(1))
        gate = tmp_path / "gate"
        began = time.monotonic()
        late = system.submit(WaitsForFile(path=str(gate)), round=1, deadline_s=0.3)
        queued = system.submit(WaitsForFile(path=str(gate)), round=1, deadline_s=0.3)
        for future in (late, queued):
            with pytest.raises(RequestTimeoutError, match=r"waits-for-file was not answered within its 0\.3 seconds"):
                future.result(20)
        assert time.monotonic() - began >= 0.3
        gate.touch()
        assert system.request("clustering", round=1, k=2, deadline_s=20).value.k == 2
        assert system.requests["status"].tolist() == ["failed", "failed", "done"]
