"""Where cache functions come from: a cluster of our own on this machine, or one that somebody else runs."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import platform
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
from distributed import Client, LocalCluster, Status
from distributed.comm import connect
from distributed.security import Security

from flstore.errors import ClusterError, InvalidParameterError
from flstore.functions.line import Line
from flstore.functions.nanny import FunctionNanny

CONNECT_TIMEOUT_S = 5

_DASK = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.active-memory-manager.start": False,
    # No status pages: they would be open to every user of the machine.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Dask's defaults are one thread a worker, though a function that computes alone may use every core, and memory that
    # is given back at once, so that what every layer of a model makes is fresh pages (and takes twice as long).
    "distributed.nanny.pre-spawn-environ": {},
}


def start_local(functions: int, processes: bool) -> tuple[Client, LocalCluster]:
    """Start a cluster on loopback: a process a function, closed to other users by TLS with temporary keys."""
    with dask.config.set(_DASK):
        cluster = LocalCluster(
            n_workers=functions,
            threads_per_worker=1,
            processes=processes,
            worker_class=FunctionNanny if processes else None,
            security=True if processes else None,
            host="127.0.0.1" if processes else None,
            protocol=None if processes else "inproc://",
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
    try:
        return Client(cluster, set_as_default=False), cluster
    except BaseException:
        cluster.close()
        raise


async def resize(cluster: LocalCluster, count: int, leaving: Collection[str] = ()) -> None:
    """Let a cluster of ours have `count` workers, without those at the addresses `leaving`.

    On the cluster's event loop. Workers that closed for good (they lost the scheduler) are started anew.
    """
    for name in closed(cluster):
        del cluster.workers[name]
    going = [name for name, worker in cluster.workers.items() if _address(worker) in leaving]
    with dask.config.set(_DASK):
        if going:
            await cluster.scale_down(going)
        cluster.scale(count)
        await cluster


def closed(cluster: LocalCluster) -> list[Any]:
    """Names of workers that ended on their own and that Dask does not start again."""
    return [name for name, worker in cluster.workers.items() if worker.status in (Status.closed, Status.failed)]


def _address(worker: Any) -> str:
    """Of the worker itself: a process of its own is looked after by a nanny, whose address is another."""
    return str(getattr(worker, "worker_address", None) or worker.address)


def join(address: str, security: Security | Mapping[str, str] | None, insecure: bool) -> Line:
    """Connect to the scheduler of a cluster that somebody else runs.

    Raises
    ------
    InvalidParameterError
        No address of a scheduler, or one without encryption that leaves this machine (nothing was tried then).
    ClusterError
        The scheduler does not answer.
    """
    check_address(address, insecure)
    if security is not None and not isinstance(security, Security):
        security = Security(require_encryption=True, **security)
    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has an event loop already
            thread.submit(asyncio.run, _knock(address, security or Security())).result()
        return Line(address, security or Security())
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(
            f"the scheduler at {address} did not answer within {CONNECT_TIMEOUT_S} s: {str(error) or 'it says nothing'}"
        ) from error


async def _knock(address: str, security: Security) -> None:
    """Connect and disconnect: Dask's client would wait for ever for one that takes a connection and says nothing."""
    asked = connect(address, timeout=CONNECT_TIMEOUT_S, **security.get_connection_args("client"))
    comm = await asyncio.wait_for(asked, CONNECT_TIMEOUT_S)
    await comm.close()


def check_address(address: str, insecure: bool) -> None:
    """Refuse, before anything is sent, an address that is none or whose traffic others could read."""
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("tls", "tcp") or not parts.hostname or port is None:
        raise InvalidParameterError(f"{address!r} is no scheduler address; expected something like 'tls://host:8786'")
    if parts.scheme == "tcp" and not insecure and not _is_loopback(parts.hostname):
        raise InvalidParameterError(
            f"{address} is not encrypted, and everybody on the way could read the client updates: use tls:// with "
            f"security=..., or say insecure=True if the network is yours"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_versions(workers: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse workers that run another Python or flstore than this process, and name them."""
    from flstore import __version__

    mine = {"python": ".".join(platform.python_version_tuple()[:2]), "flstore": __version__}
    for name, packages in sorted(workers.items()):
        theirs = {
            "python": ".".join(str(packages.get("python")).split(".")[:2]),
            "flstore": packages.get("flstore"),
        }
        for package, version in mine.items():
            if theirs[package] != version:
                found = theirs[package] or "none"
                raise ClusterError(
                    f"worker {name} has {package} {found}, this process {version}; install the same on both"
                )


def temporary_tls(folder: Path) -> dict[str, str]:
    """Write a new certificate and key for one cluster into `folder`; what ``FLStore.connect(security=...)`` takes."""
    keys = Security.temporary().get_tls_config_for_role("client")
    files = {}
    for role, name in (("ca_file", "tls_ca_file"), ("cert", "tls_client_cert"), ("key", "tls_client_key")):
        path = folder / f"{role}.pem"
        path.touch(mode=0o600)
        path.write_text(keys[role])
        files[name] = str(path)
    return files
