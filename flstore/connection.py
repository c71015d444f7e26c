"""The connection file: how another process of the same user reaches the cache functions of a store.

It holds the keys of the cluster, and who may join a Dask cluster may run code there: so it is this user's alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path

from flstore.errors import ClusterError
from flstore.processes import Process

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Connection:
    """What a reader needs to know.

    Attributes
    ----------
    root, job : str
        What the store is about; the root without secrets.
    address : str
        Of the scheduler.
    tls : dict or None
        PEM texts or paths, as :class:`distributed.Security` takes them.
    namespace : str
        Of the store's functions.
    lineage, epoch : str, int
        Of the writer's term.
    host, pid, birth : str, int, str
        The writer, see :class:`flstore.processes.Process`.
    owned : bool
        Whether the cluster ends with the writer.
    ping_deadline_s : float
        After so long without an answer a function counts as silent.
    """

    root: str
    job: str
    address: str
    namespace: str
    lineage: str
    epoch: int
    host: str
    pid: int
    birth: str
    owned: bool
    ping_deadline_s: float
    tls: dict[str, str] | None = field(default=None, repr=False)

    @property
    def is_stale(self) -> bool:
        """Whether its writer has certainly ended."""
        return Process(self.host, self.pid, self.birth).is_gone

    def save(self, path: Path) -> None:
        """Write it, whole or not at all, for this user only."""
        temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, **asdict(self)}, file)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Connection | None:
        """Read it; None when there is none.

        Raises
        ------
        ClusterError
            It is not this user's alone, so its keys cannot be trusted; or it is no connection file.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ClusterError(f"the connection file {path} cannot be read: {error.strerror}") from error
        with os.fdopen(handle, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            mode = stat.S_IMODE(status.st_mode)
            if status.st_uid != os.geteuid() or mode & 0o077 or not stat.S_ISREG(status.st_mode):
                raise ClusterError(
                    f"the connection file {path} belongs to user {status.st_uid} and has mode {mode:04o}, so others "
                    f"may have read or written it; expected a file of user {os.geteuid()} with mode 0600: delete it, "
                    f"and let the writer open its store again"
                )
            try:
                values = json.load(file)
                if values.pop("format") != FORMAT:
                    raise ValueError("another format")
                return cls(**values)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ClusterError(f"{path} is no connection file of this version of flstore: {error}") from error


def path_of(place: str) -> Path:
    """Where the connection file of a root and job is (``place``: see :func:`flstore.persistence.claim.place`)."""
    return runtime_folder() / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.json"


def runtime_folder() -> Path:
    """This user's folder for them: ``$FLSTORE_RUNTIME``, else below ``$XDG_RUNTIME_DIR``, else below the home."""
    if named := os.environ.get("FLSTORE_RUNTIME"):
        return Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "flstore"
    return Path.home() / ".local" / "state" / "flstore"
