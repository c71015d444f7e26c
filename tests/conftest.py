"""What all tests share: no window is opened, nothing is sent home, no example fails for being slow."""

import os
import tempfile
from collections.abc import Iterator

import dask
import pytest
from hypothesis import settings

from flstore.testing.services import S3Server, rclone_s3, swift_s3
from tests.servers import started

os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
# Connection files go where nobody looks for them; the folder goes with the process.
_runtime = tempfile.TemporaryDirectory(prefix="flstore-test-")
os.environ["FLSTORE_RUNTIME"] = _runtime.name

# Functions start as forks of a process that has imported Dask once. With an interpreter each, as for users, start those
# of the tutorials, of the command, and of all that is tested in a process of its own.
dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})

settings.register_profile("flstore", deadline=None, print_blob=True)
settings.load_profile("flstore")


@pytest.fixture
def own_interpreters() -> Iterator[None]:
    """Functions start an interpreter each, with the environment and the connections of their own."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}):
        yield


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A fast S3 server, one for all tests: each makes buckets of its own."""
    yield from started(lambda: rclone_s3(tmp_path_factory.mktemp("rclone")))


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A faithful S3 server, one for all tests."""
    yield from started(lambda: swift_s3(tmp_path_factory.mktemp("swift")))
