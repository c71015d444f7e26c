"""A Dask cluster that somebody else runs: scheduler and workers started by hand, over TLS."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from distributed.security import Security

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Cluster:
    """A scheduler and workers as processes of their own."""

    directory: Path
    security: dict[str, str]
    address: str = ""
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    workers: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    def start(self, what: str, *arguments: str, cwd: Path = REPOSITORY) -> subprocess.Popen[str]:
        tls = ["--tls-ca-file", self.security["tls_ca_file"], "--tls-cert", self.security["tls_client_cert"]]
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, *tls]
        command += ["--tls-key", self.security["tls_client_key"], "--host", "127.0.0.1", "--no-dashboard"]
        said = subprocess.PIPE if what == "scheduler" else subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=cwd, stderr=said, text=True)
        self.processes.append(process)
        return process

    def scheduler(self) -> None:
        process = self.start("scheduler", "--port", "0", "--protocol", "tls")
        self.workers["scheduler"] = process
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"Scheduler at:\s+(tls://\S+)", line)
            if found:
                self.address = found.group(1)
                return
        raise AssertionError("the scheduler did not start")

    def worker(self, name: str, *more: str, memory: str = "1GiB", cwd: Path = REPOSITORY) -> subprocess.Popen[str]:
        folder = str(self.directory / name)
        process = self.start(
            "worker", self.address, "--name", name, "--nthreads", "1", "--memory-limit", memory, "--no-nanny",
            "--local-directory", folder, *more, cwd=cwd,
        )  # fmt: skip
        self.workers[name] = process
        return process

    @contextlib.contextmanager
    def hung(self, name: str) -> Iterator[None]:
        """Stop the process of a worker, or of the scheduler, for a block (SIGSTOP)."""
        process = psutil.Process(self.workers[name].pid)
        process.suspend()
        try:
            yield
        finally:
            process.resume()


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Cluster]:
    """A cluster of two workers, alpha and beta."""
    keys = Security.temporary().get_tls_config_for_role("client")
    files = {}
    for role, name in (("ca_file", "tls_ca_file"), ("cert", "tls_client_cert"), ("key", "tls_client_key")):
        path = directory / f"{role}.pem"
        path.write_text(keys[role])
        files[name] = str(path)
    cluster = Cluster(directory, files)
    try:
        cluster.scheduler()
        cluster.worker("alpha")
        cluster.worker("beta")
        yield cluster
    finally:
        for process in reversed(cluster.processes):
            process.kill()
            process.wait(20)
