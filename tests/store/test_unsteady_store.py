"""A persistent store that fails and comes back: requests are answered all the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.errors import StoreError
from flstore.persistence.again import ATTEMPTS
from flstore.testing.faulty_fs import Fault, FaultPlan
from tests.store.conftest import CLIENTS, fill, make_round


def test_a_request_outlives_reads_that_fail_twice(tmp_path: Path) -> None:
    plan = FaultPlan(str(tmp_path / "plan"))
    options: dict[str, Any] = {"storage_options": plan.storage_options, "memory": "64MiB", "policy": "lru"}
    with FLStore.local(functions=1, root=plan.url(tmp_path / "root"), **options) as store:
        fill(store, range(1, 4))
        store.flush()
        plan.add(Fault("fail", "read", times=2, match="*round=00000001*client=c3*"))
        plan.add(Fault("fail", "read", times=2, match="*round=00000002*client=c3*"))
        assert store.request("cosine_similarity", round=1).record.misses == CLIENTS + 1
        np.testing.assert_array_equal(store.update(2, "c3")["w"], make_round(2)["c3"]["w"])
        pids = {f.pid for f in store._pool.functions.values()}
        assert [strike.pid in pids for strike in plan.strikes()] == [True, True, False, False]
        with (
            plan.stage(Fault("fail", "read", match="*round=00000003*")),
            pytest.raises(StoreError, match=rf"cannot read update of client .* \(tried {ATTEMPTS} times in \d+ s\)"),
        ):
            store.request("cosine_similarity", round=3)
        assert store.request("cosine_similarity", round=3).value.similarity.shape == (CLIENTS, CLIENTS)
