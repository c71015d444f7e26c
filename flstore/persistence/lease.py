"""One writer a job on a remote root: a small object that the writer renews, and that goes stale when it stops."""

from __future__ import annotations

import logging
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Any

from flstore.persistence import layout
from flstore.persistence.files import Files
from flstore.persistence.remote_files import NO_CONDITIONS, TAKEN, RemoteFiles, protocols, s3_code
from flstore.persistence.term import Term, refusal, replaced

LEASE_S = 30.0
"""A lease that was not renewed for so long is stale: its writer is dead or cut off."""
RENEWALS = 3
"""How often a lease is renewed before it would go stale."""
LOOK_AGAIN_S = 0.5
"""How old the writer's last look at its lease may be when it takes something in."""
_ATTEMPTS = 5

_log = logging.getLogger(__name__)


class Lease:
    """A lease object in the job's folder.

    Whether it is stale is judged by the server's clock alone (when it was written, against the server's time now);
    where there is no such clock, by looking twice: a lease that did not move meanwhile is stale. Writes are conditional
    where the server honours that. Where it does not, two that open at the same moment may both believe to have won,
    until the loser looks again: when it next takes something in, or renews.

    Parameters
    ----------
    files : Files
        The root.
    root : str
        Its name, for messages.
    job : str
        The job.
    takeover : bool
        Whether a living writer is to be replaced.
    lease_s : float
        Seconds without a renewal after which it is stale. Every writer of a root should have the same.

    Raises
    ------
    WriterExistsError
        A living writer has it.
    """

    def __init__(self, files: Files, root: str, job: str, *, takeover: bool = False, lease_s: float = LEASE_S) -> None:
        self._object = _LeaseObject(files, layout.writer_path(job, "lease"))
        self._root, self._job, self._lease_s = root, job, lease_s
        self._next: Term | None = None
        self._looked_s = -LOOK_AGAIN_S
        self._ended = threading.Event()
        self.term = self._acquire(takeover)
        self._renewer = threading.Thread(target=self._renew, name="flstore-lease", daemon=True)
        self._renewer.start()

    def check(self) -> None:
        if self._next is None and time.monotonic() - self._looked_s > LOOK_AGAIN_S:
            try:
                self._look()
            except Exception as error:  # that the store does not answer is for the writes to say
                _log.debug("the lease of job %r could not be read: %s", self._job, type(error).__name__)
        if self._next is not None:
            raise replaced(self._root, self._job, self._next)

    def _look(self) -> str | None:
        """See whether another writer has taken over; returns the tag of the lease."""
        there, tag = self._object.look()
        self._looked_s = time.monotonic()
        if there is not None and there.token != self.term.token:
            self._next = there
        return tag

    def release(self) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        self._renewer.join()
        try:
            last, tag = self._object.look()
            if last is not None and last.token == self.term.token:
                self._object.write(last.ended(), tag)
        except Exception as error:  # it goes stale by itself
            _log.warning("the lease of job %r could not be given back: %s", self._job, type(error).__name__)

    def _acquire(self, takeover: bool) -> Term:
        for _ in range(_ATTEMPTS):
            last, tag = self._object.look()
            if last is not None and not (takeover or last.released or last.writer.is_gone or self._is_stale(last)):
                raise refusal(self._root, self._job, last)
            mine = Term.after(last)
            if self._object.write(mine, tag):
                there, _ = self._object.look()
                if there is not None and there.token == mine.token:
                    return mine
        raise refusal(self._root, self._job, self._object.look()[0])

    def _is_stale(self, last: Term) -> bool:
        age_s = self._object.age_s()
        if age_s is not None:
            return age_s > self._lease_s
        end = time.monotonic() + self._lease_s
        while time.monotonic() < end:
            self._ended.wait(self._lease_s / RENEWALS / 2)
            now, _ = self._object.look()
            if now is None or (now.token, now.beat) != (last.token, last.beat):
                return now is None or now.released
        return True

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_s / RENEWALS):
            try:
                tag = self._look()
                if self._next is not None:
                    return
                if self._object.write(self.term.beating(), tag):
                    self.term = self.term.beating()
            except Exception as error:  # the store does not answer at the moment; another writer cannot open either
                _log.warning("the lease of job %r could not be renewed: %s", self._job, type(error).__name__)


class _LeaseObject:
    """The object itself: on S3 with its server's clock and conditions, elsewhere a plain file."""

    def __init__(self, files: Files, path: str) -> None:
        self._files, self._path = files, path
        self._s3: Any = files.fs if isinstance(files, RemoteFiles) and "s3" in protocols(files.fs) else None
        if self._s3 is not None:
            bucket, key = self._s3.split_path(files._at(path))[:2]  # type: ignore[attr-defined]
            self._names = {"Bucket": bucket, "Key": key}

    def look(self) -> tuple[Term | None, str | None]:
        """What is there, and a tag that changes with every write, where there is one."""
        try:
            tag = None if self._s3 is None else str(self._head()["ETag"])
            return Term.load(self._files.read(self._path)), tag
        except FileNotFoundError as error:
            if s3_code(error) == "NoSuchBucket":
                raise
            return None, None

    def age_s(self) -> float | None:
        """Seconds since the last write, both times by the server's clock; None where it does not tell."""
        if self._s3 is None:
            return None
        try:
            head = self._head()
            now = parsedate_to_datetime(head["ResponseMetadata"]["HTTPHeaders"]["date"])
            return float((now - head["LastModified"]).total_seconds())
        except (KeyError, ValueError, TypeError):
            return None

    def write(self, term: Term, tag: str | None) -> bool:
        """Write where nothing (`tag` None) or what had this tag is; False when another was faster."""
        if self._s3 is None:
            if tag is None and not self._files.exists(self._path):
                try:
                    self._files.create(self._path, term.dump())
                except FileExistsError:
                    return False
            else:
                self._files.replace(self._path, term.dump())
            return True
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            self._s3.call_s3("put_object", **self._names, Body=term.dump(), **condition)
        except OSError as error:
            code = s3_code(error)
            if code in TAKEN:
                return False
            if code not in NO_CONDITIONS:
                raise
            self._files.replace(self._path, term.dump())
        return True

    def _head(self) -> Any:
        return self._s3.call_s3("head_object", **self._names)
