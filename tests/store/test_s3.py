"""The whole store on real S3 servers: functions load from there, and the baseline reads the same objects."""

import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.errors import StoreError
from flstore.testing.services import S3Server
from tests.servers import bucket
from tests.store.conftest import CLIENTS, fill
from tests.store.test_requests import REQUESTS, assert_same

pytestmark = pytest.mark.services


@pytest.mark.parametrize("server", ["rclone", "swift"])
def test_a_store_on_s3(server: str, request: pytest.FixtureRequest) -> None:
    s3: S3Server = request.getfixturevalue(server)
    root = bucket(s3)["root"] + "/runs"
    options = {"storage_options": s3.storage_options}
    with FLStore.local(functions=2, memory="64MiB", root=root, **options) as store:
        fill(store, range(1, 6))
        store.flush()
        first = store.request("clustering", round=1, k=2)
        assert first.record.misses == CLIENTS + 1
        assert first.record.bytes_moved > 0
        with ObjStoreAgg(root, **options) as baseline:
            for workload, params in REQUESTS:
                assert_same(store.request(workload, **params).value, baseline.request(workload, **params).value)
        assert s3.secret not in repr(store) + store._repr_html_() + repr(store._objects) + repr(store.log.header)
    with FLStore.local(functions=1, memory="64MiB", root=root, **options) as again:
        assert again.rounds() == [1, 2, 3, 4, 5]
        assert again.request("lineage", client="c1").value.rounds == [1, 2, 3, 4, 5]
    wrong = {**s3.storage_options, "secret": "not-the-secret-at-all"}
    with pytest.raises(StoreError) as refused:
        FLStore.local(root=root, storage_options=wrong)
    assert "not-the-secret-at-all" not in str(refused.value)
