"""The right to write a job below a root: one writer at a time, whoever and wherever it is."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flstore.persistence.files import LocalFiles
from flstore.persistence.lease import Lease
from flstore.persistence.local_lock import LocalLock
from flstore.persistence.term import Claim, Term

if TYPE_CHECKING:
    from flstore.persistence.root import Root

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def place(root: Root, job: str) -> str:
    """What names a root and job alike in every process of this machine, without secrets."""
    spec = root.spec
    if isinstance(root._files, LocalFiles):
        return f"{os.path.realpath(spec['root'])}\n{job}"
    options: Mapping[str, Any] = spec["storage_options"]
    endpoint = options.get("endpoint_url") or (options.get("client_kwargs") or {}).get("endpoint_url") or ""
    # Two servers may have a bucket of one name.
    return f"{root.root.rstrip('/')}\n{endpoint}\n{job}"


def claim(root: Root, job: str, *, takeover: bool = False) -> Claim:
    """Become the writer of `job` below `root`.

    Raises
    ------
    WriterExistsError
        Another process is; the message says who, since when, and what can be done.
    StoreError
        The root cannot be written.
    """
    with root._meaning(f"become the writer of job {job!r}"):
        if root.is_local_memory:
            return _MemoryClaim(place(root, job))
        if isinstance(root._files, LocalFiles):
            try:
                return LocalLock(str(root._files.root), job, takeover=takeover)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
        return Lease(root._files, root.root, job, takeover=takeover)


class Writers:
    """The stores of this process that write, by place: it has at most one a place, like all processes together."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._open: dict[tuple[int, str], Any] = {}

    def earlier(self, place: str) -> Any:
        """The store that is open at a place, or None."""
        return self._open.get((os.getpid(), place))  # a process that was forked inherits the registry, not the stores

    def opened(self, place: str, store: Any) -> None:
        """Note that a store is open at a place."""
        self._open[os.getpid(), place] = store

    def closed(self, place: str, store: Any) -> None:
        """Note that it is closed."""
        if self._open.get((os.getpid(), place)) is store:
            del self._open[os.getpid(), place]


# One process, one registry: which stores a process has open is known to nobody else.
WRITERS = Writers()
_last_in_memory: dict[str, Term] = {}


class _MemoryClaim:
    """On a root in memory, which only this process sees: the registry is all that is needed."""

    def __init__(self, place: str) -> None:
        with WRITERS.lock:
            self.term = _last_in_memory[place] = Term.after(_last_in_memory.get(place))

    def check(self) -> None:
        """Nobody else can take over."""

    def release(self) -> None:
        """Nothing is held."""
