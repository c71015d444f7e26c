"""A store that asks: the jobs that another process writes, answered by the writer's cache functions."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from flstore.baselines.objstore import ObjStoreAgg
from flstore.callers import stacklevel
from flstore.connection import Connection, path_of
from flstore.errors import ClusterError, FLStoreError, InvalidParameterError, ReaderError, UpdateNotFoundError
from flstore.persistence.claim import place
from flstore.reading import Link, Sight
from flstore.results import Question
from flstore.status import FunctionStatus, Status
from flstore.system import System
from flstore.types import Key, Kind
from flstore.workloads.base import Scope, Workload

if TYPE_CHECKING:
    import pandas as pd

AGAIN_AFTER_S, MOST_AGAIN_S = 1.0, 30.0
"""A cluster that could not be reached is not tried again before; each time it cannot, the wait doubles."""
LOOKS = 50
"""How often a reader looks again when the writer takes something in meanwhile."""
_SEEN = "Shown is what was seen before"


class Reader(ObjStoreAgg):
    """The look-up and requests of an :class:`flstore.FLStore` that another process has open; it takes nothing in.

    Requests run on the writer's cache functions: each on the one that holds most of its data, which pulls the rest from
    the others or from the persistent store. The writer hears of them, so its policy prefetches for readers too.

    Without a writer the requests are answered too: by its functions when it was killed and somebody else runs the
    cluster, else in this process from the persistent store, which a warning says once. When a writer opens the job
    again, its functions are used again.

    What a writer took in a moment ago can be asked for when it is durable (its ``flush``) or held by a function.

    Parameters
    ----------
    root : str
        The persistent store, as the writer names it.
    job : str, default "default"
        The FL job.
    storage_options : dict, optional
        For fsspec.
    connection : str or path, optional
        The writer's connection file. Default: the one that a writer of this user on this machine has written for
        `root` and `job`.
    concurrency : int, default 8
        Objects fetched at the same time by requests that are answered in this process.

    Raises
    ------
    ClusterError
        The connection file named does not exist, or is not this user's alone.

    Examples
    --------
    >>> from flstore import FLStore
    >>> with FLStore.attach("./flstore-data") as reader:
    ...     reader.request("clustering", round=3, k=2).record.status
    'done'
    """

    name: ClassVar[str] = "FLStore"
    place: ClassVar[str] = "reader"

    def __init__(
        self,
        root: str,
        job: str = "default",
        storage_options: Mapping[str, Any] | None = None,
        connection: str | os.PathLike[str] | None = None,
        concurrency: int = 8,
    ) -> None:
        super().__init__(root, concurrency=concurrency, job=job, storage_options=storage_options)
        self._path = path_of(place(self._objects, job)) if connection is None else Path(connection)
        self._guard = threading.RLock()
        self._link: Link | None = None
        self._sight = Sight(self._catalogue, self._objects)
        self._unreached: tuple[str, float, float] = ("", 0.0, AGAIN_AFTER_S)
        self._warned = False
        if connection is not None and Connection.load(self._path) is None:
            raise ClusterError(f"there is no connection file {self._path}; a writer has one while its store is open")
        self._reach()

    def _claim(self) -> None:
        """Nothing is claimed, and nothing written."""

    def _lose(self, gone: set[tuple[Kind, int, int]]) -> None:
        """Nothing: what is not listed may be with the writer, who tells what is gone."""

    # --- the way to the functions -----------------------------------------------------------------------------------

    def _reach(self) -> Link | None:
        """The functions of the job's writer; None when there is no way to them at the moment."""
        with self._guard:
            connection = Connection.load(self._path)
            if connection is not None and connection.owned and connection.is_stale:
                connection = None  # its cluster has ended with the writer
            if self._link is not None:
                if self._link.works and connection is not None and connection.namespace == self._link.namespace:
                    return self._link
                self._link.let_go()
                self._link = None
            if connection is None:
                return None
            namespace, until, wait_s = self._unreached
            if namespace == connection.namespace and time.monotonic() < until:
                return None
            try:
                self._link = Link(connection, self._catalogue, self._alone)
                self._unreached = ("", 0.0, AGAIN_AFTER_S)
            except ClusterError:
                again_s = min(2 * wait_s, MOST_AGAIN_S) if namespace == connection.namespace else AGAIN_AFTER_S
                self._unreached = (connection.namespace, time.monotonic() + again_s, again_s)
            return self._link

    def _alone(self, question: Question) -> None:
        """Answer in this process, from the persistent store."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"no cache functions of job {self.job!r} below {self.root} can be reached, so requests are answered in "
                f"this process from the persistent store until a writer opens it; this is said once",
                RuntimeWarning,
                stacklevel=stacklevel(),
            )
        super()._answer(question)

    # --- what exists ------------------------------------------------------------------------------------------------

    def _look(self, asked: Iterable[int] = ()) -> None:
        """See what is new: what the writer tells, or without one the listing of what is asked for."""
        link = self._reach()
        with self._guard:
            told = None if link is None else link.news()
            if link is None or told is None:
                self._sight.list_new(asked)
                return
            for _ in range(LOOKS):
                if not self._sight.take_in(link, told):
                    return
                # What was taken in while it was listed may have been seen in part.
                told = link.news() or told

    def _needs(self, workload: Workload, scope: Scope) -> list[Key]:
        asked = {r for r in (scope.round, *(scope.rounds or ())) if isinstance(r, int)}
        self._look(asked)
        try:
            keys = System._needs(self, workload, scope)
        except UpdateNotFoundError:
            with self._guard:
                self._sight.list_new(())
            self._look(asked)  # what was just listed may have come since the last look, and be there in part
            try:
                keys = System._needs(self, workload, scope)
            except UpdateNotFoundError as error:
                raise UpdateNotFoundError(f"{error}{self._sight.in_words()}") from None
        except InvalidParameterError as error:
            if hidden := self._sight.in_words():  # what is wrong may be that some of a round is not seen yet
                raise UpdateNotFoundError(f"{error}{hidden}") from None
            raise
        self._sight.check_whole(keys, scope.client)
        return keys

    def rounds(self) -> list[int]:
        """Rounds with client updates, ascending."""
        self._look()
        return super().rounds()

    def clients(self, round: int | None = None) -> list[str]:
        """Clients of a round, or all that ever took part, sorted."""
        self._look([] if round is None else [round])
        return super().clients(round)

    def update(self, round: int, client: str) -> dict[str, Any]:
        """What a client sent in a round, as read-only arrays by tensor name."""
        self._look([round])
        return super().update(round, client)

    def aggregate(self, round: int) -> dict[str, Any]:
        """The global model after a round (round 0: before training), as read-only arrays by tensor name."""
        self._look([round])
        return super().aggregate(round)

    def metadata(self, round: int | None = None) -> pd.DataFrame:
        """What is stored about each client's work: one row a (round, client), one column a field."""
        self._look([] if round is None else [round])
        return super().metadata(round)

    def _known_update(self, key: Key) -> Any:
        try:
            return super()._known_update(key)
        except UpdateNotFoundError as error:
            link = self._reach()
            found = None if link is None else link.fetch(key)
            if found is None:
                raise UpdateNotFoundError(f"{error}{self._sight.in_words()}") from None
            return found

    # --- requests ---------------------------------------------------------------------------------------------------

    def _answer(self, question: Question) -> None:
        link = self._reach()
        if link is None:
            self._alone(question)
        else:
            link.serve(question, _as_asked(question))

    def status(self) -> Status:
        """What the functions hold, and how the requests of this reader fared."""
        link, problem = None, ""
        functions: tuple[FunctionStatus, ...] = ()
        held: set[Key] = set()
        try:
            if not self.closed:
                self._look()
                link = self._reach()
                if link is not None:
                    functions, held = link.statuses()
                elif self._catalogue.rounds() and not self._objects.rounds(self.job):
                    problem = (
                        f"Nothing of job {self.job!r} is below {self.root} any more; shown is what was seen before."
                    )
        except FLStoreError as error:  # what was seen before is shown all the same
            problem = f"{_SEEN}: {error}"
        policy = "of the writer" if link else "no writer"
        return Status.of(self, policy, functions, 0, self._tracker.by_class(), problem, held)

    # --- what readers do not do -------------------------------------------------------------------------------------

    def _check_may_write(self) -> NoReturn:
        raise ReaderError(
            f"this store only asks: job {self.job!r} below {self.root} is written by the process that opened it with "
            f"FLStore.local or FLStore.connect"
        )

    def delete(self, *_: Any, **__: Any) -> NoReturn:
        """Raise ReaderError: a reader removes nothing."""
        self._check_may_write()

    def add_feeder(self, feeder: Any) -> NoReturn:
        """Raise ReaderError: a reader takes nothing in."""
        self._check_may_write()

    def _shut(self, last: Callable[[], None]) -> None:
        with self._guard:
            link, self._link = self._link, None
        if link is not None:
            link.close()
        super()._shut(last)


def _as_asked(question: Question) -> list[Any]:
    """A request as the writer's policy should hear of it: by name, parameters and scope."""
    workload, scope = question.workload, question.scope
    params = {f.name: getattr(workload, f.name) for f in dataclasses.fields(workload)}  # type: ignore[arg-type]
    return [
        workload.name,
        params,
        {"job": scope.job, "round": scope.round, "client": scope.client, "rounds": scope.rounds},
    ]
