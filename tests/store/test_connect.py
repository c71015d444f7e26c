"""A Dask cluster that somebody else runs: scheduler and workers started by hand, over TLS."""

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from flstore import FLStore
from flstore.errors import ClusterError, InvalidParameterError
from flstore.functions import clusters
from flstore.functions.clusters import check_versions
from flstore.testing.clusters import DaskCluster
from tests.store.conftest import CLIENTS, fill
from tests.store.test_hangs import wait_until


def test_two_stores_share_a_cluster_and_closing_one_harms_none(connect: Any) -> None:
    first, second = connect("one"), connect("two", job="other")
    for store in (first, second):
        fill(store, range(1, 4))
        assert store.request("clustering", round=1, k=2).record.misses == CLIENTS + 1
        store.flush()
    assert {f.name for f in first.status().functions} == {"function-alpha", "function-beta"}
    assert {k.job for keys in first.inventory().values() for k in keys} == {"default"}
    assert {k.job for keys in second.inventory().values() for k in keys} == {"other"}
    first.close()
    record = second.request("clustering", round=2, k=2).record
    assert (record.misses, record.bytes_moved) == (0, 0)


def test_workers_come_and_go(connect: Any, cluster: DaskCluster) -> None:
    store = connect()
    fill(store, range(1, 4))
    expected = store.request("clustering", round=2, k=2).value.labels.tolist()
    cluster.add("gamma")
    store.wait_for_functions(3)
    assert len(store.status().functions) == 3
    cluster.remove("gamma")
    wait_until(lambda: len(store.status().functions) == 2)
    assert store.request("clustering", round=2, k=2).value.labels.tolist() == expected


def test_who_waits_for_more_functions_than_come_is_told_how_many_there_are(connect: Any) -> None:
    store = connect()
    with pytest.raises(ClusterError, match=r"there are 2 functions, and not 9, after 0\.1 s.*store\.scale\(9\)"):
        store.wait_for_functions(9, timeout_s=0.1)
    with pytest.raises(InvalidParameterError, match="got 0"):
        store.wait_for_functions(0)


def test_a_worker_with_less_memory_gives_what_it_can_and_is_named(connect: Any) -> None:
    with pytest.warns(RuntimeWarning, match=r"worker function-(alpha|beta) has room for a cache of \d+ bytes only"):
        store = connect(memory="8GiB")
    assert all(f.capacity_bytes < 0.6 * 2**30 for f in store.status().functions)


@pytest.mark.parametrize("protocol", ["tls", "tcp"])
@pytest.mark.parametrize("mute", [False, True], ids=["absent", "mute"])
def test_a_scheduler_that_does_not_answer_is_named(
    cluster: DaskCluster, tmp_path: Path, protocol: str, mute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "CONNECT_TIMEOUT_S", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if mute:  # the kernel takes the connection, and nobody ever says a word
            taken.listen()
        address = f"{protocol}://127.0.0.1:{taken.getsockname()[1]}"
        security = cluster.security if protocol == "tls" else None
        with pytest.raises(ClusterError, match=f"the scheduler at {address} did not answer within 1 s: .+"):
            FLStore.connect(address, str(tmp_path), security=security)


def test_the_time_that_a_scheduler_has_is_as_documented() -> None:
    assert clusters.CONNECT_TIMEOUT_S == 5
    assert "did not answer within 5 s" in str(FLStore.connect.__doc__)


@pytest.mark.parametrize("address", ["somewhere", "http://host:1", "tls://host", "tls://host:port", ""])
def test_what_is_no_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="tls://host:8786"):
        FLStore.connect(address, str(tmp_path))


def test_plain_tcp_to_elsewhere_is_refused_before_anything_is_tried(tmp_path: Path) -> None:
    root = tmp_path / "never-made"
    with pytest.raises(InvalidParameterError, match="insecure=True"):
        FLStore.connect("tcp://192.0.2.1:8786", str(root))
    assert not root.exists()


def test_a_root_in_memory_is_refused() -> None:
    with pytest.raises(InvalidParameterError, match="memory:// lives in one process"):
        FLStore.connect("tls://127.0.0.1:8786", "memory://x")


def test_other_versions_are_named() -> None:
    from flstore import __version__

    python = ".".join(map(str, sys.version_info[:3]))
    check_versions({"tls://a": {"python": python, "flstore": __version__}})
    with pytest.raises(ClusterError, match=r"worker tls://b has flstore none, this process 0"):
        check_versions({"tls://b": {"python": python, "flstore": None}})
    with pytest.raises(ClusterError, match=r"worker tls://c has python 3\.9, this process 3\."):
        check_versions({"tls://c": {"python": "3.9.18", "flstore": __version__}})
