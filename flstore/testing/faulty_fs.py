"""A file system that fails on purpose: ``faulty://`` over a folder, as a plan of faults says.

The plan lives in a folder of its own, so faults are staged from one process and strike in all: in the process that
ingests and in the cache functions. The file system is no local one to FLStore, which treats it as a remote store
whose writes appear whole.

>>> import tempfile
>>> from flstore.persistence import ObjectStore
>>> folder = tempfile.TemporaryDirectory()
>>> plan = FaultPlan(f"{folder.name}/plan")
>>> objects = ObjectStore(plan.url(f"{folder.name}/root"), plan.storage_options)
>>> with plan.stage(Fault("fail", "write", times=1)):
...     objects.put_metadata("job", 1, {"7": {"loss": 0.5}})
Traceback (most recent call last):
    ...
flstore.errors.StoreError: cannot write the metadata of round 1 of job 'job' below ...: the fault 'fail' strikes ...
>>> objects.put_metadata("job", 1, {"7": {"loss": 0.5}})
>>> [strike.operation for strike in plan.strikes()]
['write']
>>> folder.cleanup()
"""

from __future__ import annotations

import errno
import io
import os
import stat
from contextlib import suppress
from typing import Any

import fsspec

from flstore.errors import InvalidParameterError
from flstore.persistence.files import LocalFiles
from flstore.testing.fault_plan import PROTOCOL, Fault, FaultPlan, Strike

__all__ = ["Fault", "FaultPlan", "FaultyFileSystem", "Strike"]


class FaultyFileSystem(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """The file system behind ``faulty://``: whole files in a folder of this machine, disturbed by a plan.

    Parameters
    ----------
    plan : FaultPlan
        See :attr:`FaultPlan.storage_options`.
    """

    protocol = PROTOCOL
    root_marker = "/"

    def __init__(self, plan: FaultPlan | None = None, **options: Any) -> None:
        super().__init__(**options)
        if not isinstance(plan, FaultPlan):
            raise InvalidParameterError(f"{PROTOCOL}:// needs storage_options=FaultPlan(...).storage_options")
        self.plan = plan
        self._files = LocalFiles("/")

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write a file, whole unless it is torn; with mode 'create', ``FileExistsError`` when the name is taken."""
        path, fault = self._begin("write", path)
        write = self._files.create if mode == "create" else self._files.replace
        torn = fault is not None and fault.kind == "tear"
        write(path.lstrip("/"), value[: len(value) // 2] if torn else value)
        self._end(fault, path)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Bytes of a file."""
        path, fault = self._begin("read", path)
        data = bytes(self._files.read(path.lstrip("/")))[start:end]
        if fault is not None and fault.kind == "tear":
            return data[: len(data) // 2]
        self._end(fault, path)
        return data

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        """What is in a folder."""
        path, fault = self._begin("list", path)
        found = _entries(path)
        self._end(fault, path)
        return found if detail else [entry["name"] for entry in found]

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any
    ) -> Any:
        """All files below a folder: one operation, as on S3. (fsspec's own would take an error for an empty folder.)"""
        if maxdepth is not None or withdirs:
            raise NotImplementedError(f"{PROTOCOL}:// finds all files, and no folders")
        path, fault = self._begin("list", path)
        found: dict[str, Any] = {}
        waiting = [path]
        while waiting:
            with suppress(FileNotFoundError):
                for entry in _entries(waiting.pop()):
                    if entry["type"] == "directory":
                        waiting.append(entry["name"])
                    else:
                        found[entry["name"]] = entry
        self._end(fault, path)
        return dict(sorted(found.items())) if detail else sorted(found)

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Size and type of one file."""
        path, fault = self._begin("look", path)
        found = _entry(path, os.stat(path))
        self._end(fault, path)
        return found

    def rm_file(self, path: str) -> None:
        """Delete a file."""
        path, fault = self._begin("remove", path)
        self._files.remove(path.lstrip("/"))
        self._end(fault, path)

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> io.BytesIO:
        if mode != "rb":
            raise NotImplementedError(f"{PROTOCOL}:// writes whole files: use pipe_file")
        return io.BytesIO(self.cat_file(path))

    def _begin(self, operation: str, path: str) -> tuple[str, Fault | None]:
        path = self._strip_protocol(path)
        fault = self.plan.disturb(operation, path)
        if fault is not None and fault.kind == "fail":
            self._end(fault, path)
        return path, fault

    @staticmethod
    def _end(fault: Fault | None, path: str) -> None:
        if fault is not None and fault.kind != "stall":
            raise OSError(errno.EIO, f"the fault {fault.kind!r} strikes a {fault.operation}", path)


def _entries(folder: str) -> list[dict[str, Any]]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            # The hidden file of a write that is going on may be gone by now.
            with suppress(FileNotFoundError):
                found.append(_entry(entry.path, entry.stat()))
    return found


def _entry(path: str, status: os.stat_result) -> dict[str, Any]:
    is_folder = stat.S_ISDIR(status.st_mode)
    return {"name": path, "size": status.st_size, "type": "directory" if is_folder else "file"}
