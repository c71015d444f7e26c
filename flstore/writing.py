"""A store as the one writer of its job: the claim to it, the connection file, and word to and from readers."""

from __future__ import annotations

import itertools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flstore import workloads
from flstore.callers import stacklevel
from flstore.connection import Connection, path_of
from flstore.errors import FLStoreError
from flstore.functions import wire
from flstore.functions.telling import Telling, tell
from flstore.news import News
from flstore.persistence import ObjectStore
from flstore.persistence.claim import WRITERS, claim, place
from flstore.persistence.term import Claim
from flstore.plans import requested
from flstore.types import Event, Key, Kind
from flstore.workloads.base import Scope

if TYPE_CHECKING:
    from flstore.functions.pool import FunctionPool
    from flstore.ingest import Arrival
    from flstore.store import FLStore

TELL_WITHIN_S = 1.0
"""How long an ingest may wait for a function to hear of it, when there are readers."""

_log = logging.getLogger(__name__)


class Writing(Telling):
    """What makes a store the writer, from :meth:`begin` to :meth:`end`.

    Parameters
    ----------
    store : FLStore
        The store.
    takeover : bool
        Whether it takes the job over from a writer that lives.
    ping_deadline_s : float
        Told to readers, who ping too.
    """

    def __init__(self, store: FLStore, takeover: bool, ping_deadline_s: float) -> None:
        self._store = store
        self._ping_deadline_s = ping_deadline_s
        self._takeover = takeover
        self._news = News()
        self._claim: Claim | None = None
        self._pool: FunctionPool | None = None
        self._file: Path | None = None
        self._connection: Connection | None = None
        self._numbers = itertools.count(-1, -1)
        self._readers = False

    # --- the claim --------------------------------------------------------------------------------------------------

    def begin(self, objects: ObjectStore) -> None:
        """Become the writer; an earlier store of this process is closed for that."""
        self._place = place(objects, self._store.job)
        with WRITERS.lock:
            earlier = WRITERS.earlier(self._place)
            if earlier is not None:
                warnings.warn(
                    f"job {self._store.job!r} below {objects.root} was still open in this process; the earlier store "
                    f"is flushed and closed, because a job has one writer (close() it, or use it in a with statement)",
                    RuntimeWarning,
                    stacklevel=stacklevel(),
                )
                earlier.close()
            self._claim = claim(objects, self._store.job, takeover=self._takeover)
            WRITERS.opened(self._place, self._store)

    def check(self) -> None:
        """Raise WriterExistsError when another writer has taken over."""
        if self._claim is not None:
            self._claim.check()

    def end(self) -> None:
        """Let the next writer begin."""
        self.withdraw()
        held, self._claim = self._claim, None
        if held is not None:
            held.release()
            WRITERS.closed(self._place, self._store)

    # --- the connection file ----------------------------------------------------------------------------------------

    def announce(self, pool: FunctionPool) -> None:
        """Write the connection file. Without one the store works, and readers do without its functions."""
        from flstore.functions.reach import line_of

        assert self._claim is not None
        self._pool = pool
        term = self._claim.term
        address, tls = line_of(pool)
        self._connection = Connection(
            self._store.root, self._store.job, address, pool.namespace, term.lineage, term.epoch, term.host, term.pid,
            term.birth, pool.cluster is not None, self._ping_deadline_s, tls,
        )  # fmt: skip
        path = path_of(self._place)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection.save(path)
        except OSError as error:
            _log.warning("no connection file for readers at %s: %s", path, error.strerror)
            return
        self._file = path

    def withdraw(self) -> None:
        """Remove the connection file, unless it is another writer's by now."""
        path, self._file = self._file, None
        self._pool = None
        if path is not None:
            with suppress(OSError, FLStoreError):
                there = Connection.load(path)
                if there is not None and self._connection and there.namespace == self._connection.namespace:
                    path.unlink()

    # --- word to and from readers -----------------------------------------------------------------------------------

    @contextmanager
    def taking_in(self, arrival: Arrival) -> Iterator[Any]:
        """Tell readers of an arrival before it is stored."""
        rows = [Key(self._store.job, Kind.METADATA, arrival.round, client) for client in arrival.metadata_rows]
        with self._news.taking_in(arrival.round, [*arrival.buffers, *rows]) as noted:
            self._tell()
            yield noted

    def _tell(self) -> None:
        """Readers that were here hear of an arrival before it can be listed in part; others with the next pings."""
        pool = self._pool
        if self._readers and pool is not None:
            with suppress(TimeoutError):
                pool.sync(tell(pool), TELL_WITHIN_S)

    @property
    def term(self) -> tuple[str, int]:
        assert self._claim is not None
        return self._claim.term.lineage, self._claim.term.epoch

    @property
    def stamp(self) -> dict[str, Any]:
        return {} if self._claim is None else {"epoch": self._claim.term.epoch}

    def message(self) -> dict[str, Any]:
        return {"news": wire.pack({**self._news.values(), "heard": self._readers}), "drain": True}

    def heard(self, reply: dict[str, Any]) -> None:
        if reply.get("status") != "OK":
            return
        if reply["readers"] and not self._readers:
            self._readers = True
            if self._pool is not None:
                self._pool.submit(tell(self._pool))  # the first reader waits to be noticed
        for asked in wire.unpack(reply["asked"]):
            event = self._event(asked)
            if event is not None:
                self._store._note(event)

    def _event(self, asked: Any) -> Event | None:
        """A reader's request as an event; None for one that means nothing here."""
        catalogue = self._store._catalogue
        try:
            name, params, scope = asked
            workload = workloads.make(name, **params)
            rounds = scope["rounds"]
            about = Scope(catalogue.job, scope["round"], scope["client"], None if rounds is None else tuple(rounds))
            return requested(catalogue, next(self._numbers), workload, about, workload.needs(about, catalogue))
        except (FLStoreError, LookupError, TypeError, ValueError) as error:
            _log.debug("a reader's request means nothing here: %s", error)
            return None
