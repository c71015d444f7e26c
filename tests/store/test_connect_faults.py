"""Workers and owners on a foreign cluster that hang, restart or die: nobody waits for them without bound."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from flstore import FLStore
from flstore.errors import ClusterError, RequestError
from flstore.functions import pool
from flstore.functions.function import handler_name
from flstore.testing.clusters import DaskCluster, dask_cluster
from flstore.types import FunctionLost
from tests.store.conftest import CLIENTS, fill, make_round
from tests.store.odd_workloads import Raises
from tests.store.test_hangs import events, wait_until

DEADLINE_S = 0.5
LEASE_S = 1.5


def test_a_hung_worker_holds_up_neither_opening_nor_closing(connect: Any, cluster: DaskCluster) -> None:
    with cluster.hung("beta"):
        store = connect("hung", functions=1, ping_deadline_s=DEADLINE_S)
        assert [f.name for f in store.status().functions] == ["function-alpha"]
        fill(store, range(1, 3))
        assert store.request("clustering", round=1, k=2).record.functions == ["function-alpha"]
    wait_until(lambda: len(store.status().functions) == 2)  # it got its function when it answered again
    assert set(store.inventory()) == {"function-alpha", "function-beta"}
    with cluster.hung("beta"):
        began = time.monotonic()
        store.close()
        assert time.monotonic() - began < 15, "waiting for a hung worker has no end of its own"


def test_a_hung_scheduler_does_not_hold_up_requests_or_closing(connect: Any, cluster: DaskCluster) -> None:
    store = connect("headless", ping_deadline_s=DEADLINE_S)
    fill(store, range(1, 3))
    with cluster.hung("scheduler"):
        assert store.request("clustering", round=1, k=2, deadline_s=20).value.k == 2
        began = time.monotonic()
        store.close()
        assert time.monotonic() - began < 30


def test_a_worker_restarted_at_its_address_is_noticed(
    connect: Any, cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    cluster.add("fixed", "--worker-port", str(port))
    store = connect("restarted", functions=3, ping_deadline_s=20)
    fill(store, range(1, 3))
    monkeypatch.setattr(pool, "WATCH_PERIOD_S", 3600)  # from now on nobody compares lists
    wait_until(lambda: not store._pool._welcoming)
    before = next(f for f in store._pool.functions.values() if f.name == "function-fixed")
    first = cluster.pids["fixed"]
    cluster.kill("fixed")
    wait_until(lambda: cluster.pids["fixed"] != first)
    again = cluster.pids["fixed"]
    wait_until(lambda: before.gone.is_set(), 60)
    assert before.incarnation in {e.incarnation for e in events(store, FunctionLost)}

    def joined() -> bool:
        store._pool.sync(store._pool._look())
        return any(f.pid == again for f in store._pool.functions.values())

    wait_until(joined)
    assert store.inventory()["function-fixed"] == []
    cluster.remove("fixed")


OWNER = """
import json, sys
from flstore import FLStore
from tests.store.conftest import fill

address, root, security = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
options = dict(memory="64MiB", security=security, ping_deadline_s=0.5, lease_s=1.5)
store = FLStore.connect(address, root, **options)
fill(store, range(1, 4))
store.request("clustering", round=2, k=2)
store.flush()
print(store._pool.namespace, flush=True)
for line in sys.stdin:
    record = store.request("clustering", round=2, k=2).record
    print(json.dumps([record.hits, record.late_hits, record.misses]), flush=True)
"""


def test_memory_lent_to_an_owner_that_says_nothing_is_freed(connect: Any, cluster: DaskCluster, tmp_path: Path) -> None:
    arguments = [cluster.address, str(tmp_path / "owned"), json.dumps(cluster.security)]
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, *arguments],
        cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert owner.stdin is not None
    assert owner.stdout is not None
    try:
        handler = handler_name(owner.stdout.readline().strip())
        watcher = connect("watcher")

        def used() -> int:
            async def ask() -> int:
                # Not a ping, which would renew the lease.
                addresses = [f.address for f in watcher._pool.functions.values()]
                replies = [
                    await getattr(watcher._pool._rpc(a), handler)(what="inventory", renew=False) for a in addresses
                ]
                return sum(len(r["held"]) - 1 for r in replies)

            found: int = watcher._pool.sync(ask())
            return found

        seen = [used() for _ in range(12) if not time.sleep(LEASE_S / 6)]
        assert min(seen) > 0, "an owner that pings keeps its memory"
        psutil.Process(owner.pid).suspend()
        wait_until(lambda: used() == 0)
        psutil.Process(owner.pid).resume()
        owner.stdin.write("request\n")
        owner.stdin.flush()
        assert sum(json.loads(owner.stdout.readline())) == CLIENTS + 1, "it is answered all the same"
        wait_until(lambda: used() > 0)  # it joined again, and what is wanted is loaded again
        owner.kill()
        wait_until(lambda: used() == 0)
    finally:
        owner.kill()
        owner.wait(20)


def test_a_worker_with_another_flstore_is_named(connect: Any, cluster: DaskCluster, tmp_path: Path) -> None:
    store = connect("versions")
    installed = tmp_path / "flstore-9.9.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: flstore\nVersion: 9.9\n")
    cluster.add("other", cwd=tmp_path)
    try:
        with pytest.warns(RuntimeWarning, match=r"worker tls://\S+ has flstore 9\.9, this process 0\..*is not used"):
            wait_until(lambda: bool(store._pool._refused), 60)
        assert {f.name for f in store.status().functions} == {"function-alpha", "function-beta"}
        with pytest.raises(ClusterError, match=r"has flstore 9\.9, this process 0\..*install the same on both"):
            FLStore.connect(cluster.address, str(tmp_path / "root"), security=cluster.security)
    finally:
        cluster.remove("other")


@pytest.mark.parametrize("what", ["SystemExit", "KeyboardInterrupt", "StopIteration"])
def test_a_workload_that_ends_its_process_ends_only_itself(connect: Any, what: str) -> None:
    store = connect(f"ends-{what}")
    store.ingest(1, make_round(1))
    pids = {f.pid for f in store._pool.functions.values()}
    with pytest.raises(RequestError, match=f"{what}: enough"):
        store.request(Raises(what=what), round=1, deadline_s=20)
    assert store.request("clustering", round=1, k=2).value.k == 2
    assert {f.pid for f in store._pool.functions.values()} == pids


def test_a_killed_scheduler_is_found_again(tmp_path: Path) -> None:
    options: dict[str, Any] = {"memory": "64MiB", "ping_deadline_s": DEADLINE_S, "replicas": 1}
    with (
        dask_cluster(workers=2) as cluster,
        FLStore.connect(cluster.address, str(tmp_path / "root"), security=cluster.security, **options) as store,
    ):
        wait_until(lambda: len(store.status().functions) == 2)
        fill(store, range(1, 3))
        expected = store.request("clustering", round=2, k=2).value.labels.tolist()
        store.flush()
        before = {f.pid for f in store._pool.functions.values()}
        cluster.kill("scheduler")  # and with it the workers, which end when they lose it
        assert store.request("clustering", round=2, k=2).value.labels.tolist() == expected
        store.ingest(3, make_round(3)).wait(30)
        wait_until(lambda: len(before | {f.pid for f in store._pool.functions.values()}) == 4, 60)
        store.flush()
        record = store.request("clustering", round=2, k=2).record
        assert record.functions[-1].startswith("function-worker-")
        assert record.misses == 0, "what is wanted is in memory again"
