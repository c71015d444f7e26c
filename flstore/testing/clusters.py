"""A Dask cluster as somebody else would run it: processes that talk over TLS and are started anew when they die.

>>> from flstore import FLStore
>>> with dask_cluster(workers=1) as cluster:  # doctest: +SKIP
...     store = FLStore.connect(cluster.address, "/shared/root", security=cluster.security, memory="64MiB")
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flstore.errors import ClusterError, UnknownNameError
from flstore.functions.clusters import temporary_tls

READY_WITHIN_S = 60.0
_SUPERVISED_EVERY_S = 0.1
_LAUNCHER = "import ctypes; ctypes.CDLL(None).prctl(1, 15); from {module} import main; main()"
"""Asks Linux to end the process with the one that started it."""


@dataclass
class DaskCluster:
    """A running cluster.

    Attributes
    ----------
    address : str
        Of the scheduler; it keeps its port when it is started anew.
    security : dict
        TLS files, for ``FLStore.connect(security=...)``.
    """

    address: str
    security: dict[str, str]
    _folder: Path = field(repr=False)
    _memory: str = field(default="1GiB", repr=False)
    _commands: dict[str, list[str]] = field(default_factory=dict, repr=False)
    _folders: dict[str, Path | None] = field(default_factory=dict, repr=False)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _over: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name: ``scheduler`` and the workers."""
        return {name: process.pid for name, process in self._processes.items()}

    def add(self, name: str, *more: str, memory: str | None = None, cwd: Path | None = None) -> int:
        """Start a worker in the folder `cwd`, with `more` options of ``dask worker``; it joins when it is ready.

        Returns
        -------
        int
            Its process id.
        """
        options = ["--name", name, "--nthreads", "1", "--memory-limit", memory or self._memory, "--no-nanny"]
        options += ["--local-directory", str(self._folder / name), "--death-timeout", "60", *more]
        self._start(name, "worker", [self.address, *options], cwd)
        return self.pids[name]

    def remove(self, name: str) -> None:
        """Kill a worker for good."""
        with self._lock:
            self._named(name)
            del self._commands[name], self._folders[name]
            process = self._processes.pop(name)
        process.kill()
        process.wait()

    def kill(self, name: str) -> None:
        """SIGKILL a worker, or the scheduler, and wait until it is gone; another process takes its place."""
        process = self._named(name)
        process.kill()
        process.wait()

    @contextmanager
    def hung(self, name: str) -> Iterator[None]:
        """Stop a worker, or the scheduler, for a block (SIGSTOP)."""
        process = psutil.Process(self._named(name).pid)
        process.suspend()
        try:
            yield
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def _named(self, name: str) -> subprocess.Popen[bytes]:
        if name not in self._processes:
            raise UnknownNameError.of("process of the cluster", name, self._processes)
        return self._processes[name]

    def _start(self, name: str, what: str, options: list[str], cwd: Path | None = None) -> None:
        tls = ["--tls-ca-file", self.security["tls_ca_file"], "--tls-cert", self.security["tls_client_cert"]]
        tls += ["--tls-key", self.security["tls_client_key"], "--host", "127.0.0.1", "--no-dashboard"]
        launcher = _LAUNCHER.format(module=f"distributed.cli.dask_{what}")
        with self._lock:
            self._folders[name] = cwd
            self._commands[name] = [sys.executable, "-c", launcher, *options, *tls]
            self._processes[name] = self._launch(name)

    def _launch(self, name: str) -> subprocess.Popen[bytes]:
        paths = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        with open(self._folder / f"{name}.log", "ab") as log:
            return subprocess.Popen(
                self._commands[name], stdout=log, stderr=log, env={**os.environ, **paths}, cwd=self._folders[name]
            )

    def _supervise(self) -> None:
        """Start anew what has ended, as the service manager of a real cluster does."""
        while not self._over.wait(_SUPERVISED_EVERY_S):
            with self._lock:
                for name, process in list(self._processes.items()):
                    if process.poll() is not None and not self._over.is_set():
                        self._processes[name] = self._launch(name)


@contextmanager
def dask_cluster(
    workers: int | Iterable[str] = 2, memory: str = "1GiB", security: Mapping[str, str] | None = None
) -> Iterator[DaskCluster]:
    """Run a scheduler and workers for a block.

    Parameters
    ----------
    workers : int or iterable of str
        Which to start with; by default so many, named ``worker-0``, ``worker-1``, ...
    memory : str
        Dask's memory limit of each.
    security : dict, optional
        TLS files; default: new ones for this cluster alone.

    Raises
    ------
    ClusterError
        The scheduler did not start.
    """
    with tempfile.TemporaryDirectory(prefix="flstore-cluster-", ignore_cleanup_errors=True) as folder:
        files = dict(security) if security is not None else temporary_tls(Path(folder))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        cluster = DaskCluster(f"tls://127.0.0.1:{port}", files, Path(folder), memory)
        supervisor = threading.Thread(target=cluster._supervise, name="flstore-cluster", daemon=True)
        try:
            cluster._start("scheduler", "scheduler", ["--port", str(port), "--protocol", "tls"])
            _wait_for_port(port, Path(folder, "scheduler.log"))
            for name in [f"worker-{i}" for i in range(workers)] if isinstance(workers, int) else workers:
                cluster.add(name)
            supervisor.start()
            yield cluster
        finally:
            cluster._over.set()
            if supervisor.is_alive():
                supervisor.join()
            for process in reversed(list(cluster._processes.values())):
                process.kill()
                process.wait()


def _wait_for_port(port: int, log: Path) -> None:
    end = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise ClusterError(f"the scheduler did not listen within {READY_WITHIN_S} s: {log.read_text()[-1000:]}")
