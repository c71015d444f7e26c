"""``python -m benchmarks.links``: measure the links of this machine, in the form of ``flstore/cost/links.yaml``.

Not one of the benchmarks of ``python -m benchmarks``: its figures go into the file by hand, with the date. They are the
best of several: a link is what a machine can do, and whatever else runs on it only takes away.
"""

from __future__ import annotations

import datetime
import mmap
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

SMALL_BYTES, LARGE_BYTES = 10_000, 45_000_000
OBJECTS, CONNECTIONS, REPETITIONS = 8, 8, 7


def main() -> int:
    """Print every link that can be measured here."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"loopback-s3": _s3(Path(folder)), "local-files": _files(Path(folder))}
    for name, (latency_s, all_bytes_s, one_bytes_s) in found.items():
        print(f"  {name}:\n    latency_s: {latency_s:.3g}\n    bandwidth_bytes_s: {all_bytes_s:.3e}")
        print(f"    connection_bytes_s: {one_bytes_s:.3e}\n    get: null\n    transfer: null\n    basis: measured")
        print(f"    source: python -m benchmarks.links\n    date: {datetime.date.today().isoformat()}")
    return 0


def _s3(folder: Path) -> tuple[float, float, float]:
    """GETs of whole objects from a fast S3 server on loopback, one after the other and eight at a time."""
    import s3fs

    from flstore.testing.services import rclone_s3

    with rclone_s3(folder) as server:
        server.create_bucket("links")
        fs = s3fs.S3FileSystem(**server.storage_options)
        _write(lambda name, data: fs.pipe_file(f"links/{name}", data))
        # By default a GET of a whole object is preceded by a HEAD and cut into pieces.
        return _measure(lambda name: fs.cat_file(f"links/{name}", max_concurrency=1))


def _files(folder: Path) -> tuple[float, float, float]:
    """Memory-mapped local files that the system has in its memory: every byte is read once."""
    _write(lambda name, data: (folder / name).write_bytes(data))

    def get(name: str) -> None:
        with open(folder / name, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            np.frombuffer(mapped, np.uint8).max()

    return _measure(get)


def _write(put: Callable[[str, bytes], Any]) -> None:
    put("small", bytes(SMALL_BYTES))
    for i in range(OBJECTS):
        put(f"large-{i}", np.random.default_rng(i).bytes(LARGE_BYTES))


def _measure(get: Callable[[str], Any]) -> tuple[float, float, float]:
    """Seconds of a small fetch, bytes a second of all connections, and of one."""
    names = [f"large-{i}" for i in range(OBJECTS)]
    size = OBJECTS * LARGE_BYTES
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        ways = {
            "small": lambda: get("small"),
            "together": lambda: list(threads.map(get, names)),
            "alone": lambda: [get(name) for name in names],
        }
        took: dict[str, float] = {}
        for name, way in ways.items():
            way()
            took[name] = min(_seconds(way) for _ in range(REPETITIONS))
    return took["small"], size / took["together"], size / took["alone"]


def _seconds(way: Callable[[], Any]) -> float:
    began = time.perf_counter()
    way()
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
