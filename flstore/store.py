"""FLStore: wires the parts together. The class that a user holds."""

# Longer than 300 lines because the docstrings of its constructors are the manual.

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flstore import policies
from flstore.engine import EventLog, step
from flstore.errors import CapacityError, InvalidParameterError, PolicyError
from flstore.functions import wire
from flstore.in_parts import most_bytes
from flstore.moves import Moves
from flstore.policies.base import Policy
from flstore.results import Question, Receipt
from flstore.serving import Serving
from flstore.sizing import DEFAULT_BYTES, function_memory
from flstore.status import Status, function_statuses
from flstore.system import System
from flstore.types import (
    Action,
    Drop,
    Event,
    FunctionJoined,
    FunctionLost,
    Ingested,
    Key,
    KeySet,
    Kind,
    Load,
    Requested,
    Run,
)

if TYPE_CHECKING:
    from flstore.functions.pool import Function


class FLStore(System):
    """A cache for what federated learning leaves behind, with the computation placed where the data is.

    Use :meth:`local` or :meth:`connect`, which say where its cache functions run.

    Examples
    --------
    >>> import numpy as np
    >>> from flstore import FLStore
    >>> with FLStore.local(functions=1, root="memory://example") as store:
    ...     rng = np.random.default_rng(0)
    ...     updates = {f"client-{i}": {"w": rng.normal(size=100).astype("f4")} for i in range(4)}
    ...     receipt = store.ingest(1, updates)
    ...     store.request("cosine_similarity", round=1).value.similarity.shape
    (4, 4)
    """

    name: ClassVar[str] = "FLStore"

    def __init__(
        self,
        root: str,
        cluster: Callable[[bool], tuple[Any, Any]],
        memory_bytes: int,
        *,
        job: str = "default",
        policy: str | Policy = "tailored",
        policy_options: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        write_buffer: int = 1 << 30,
        fsync: bool = False,
        ping_deadline_s: float = 2.0,
        scratch_share: float = 0.25,
    ) -> None:
        from flstore.functions.pool import FunctionPool

        if not ping_deadline_s > 0:
            raise InvalidParameterError(f"ping_deadline_s must be positive, got {ping_deadline_s!r}")
        if not 0 < scratch_share < 1:
            raise InvalidParameterError(f"scratch_share must be between 0 and 1, got {scratch_share!r}")
        self._policy = policies.make(policy, **(policy_options or {}))
        self._policy_options = dict(policy_options or {})
        self._memory_bytes = memory_bytes
        super().__init__(root, job=job, storage_options=storage_options, write_buffer=write_buffer, fsync=fsync)
        self._log = EventLog(self._header(), list(self._initial))
        try:
            self._pool = FunctionPool(
                *cluster(not self._objects.is_local_memory),
                memory_bytes,
                self._objects.spec,
                joined=self._function_joined,
                lost=self._function_lost,
                ping_deadline_s=ping_deadline_s,
                scratch_share=scratch_share,
            )
            self._moves = Moves(self._pool, self._catalogue, self._note)
            self._serving = Serving(self._pool, self._catalogue, self._moves, self._not_durable, self._note)
            self._pool.start()
        except BaseException:
            self._closed = True
            self._shut(self._writer.close)
            raise

    @classmethod
    def local(
        cls,
        functions: int = 2,
        memory: int | str | None = None,
        root: str = "./flstore-data",
        job: str = "default",
        policy: str | Policy = "tailored",
        **options: Any,
    ) -> FLStore:
        """Start cache functions on this machine: one process each, on loopback, closed to other users by TLS.

        Parameters
        ----------
        functions : int, default 2
            Cache functions.
        memory : int or str, optional
            Memory of each, in bytes or as ``"2GiB"``: three quarters cache, one quarter scratch space for requests.
            Default: 4 GiB, less on a small machine.
        root : str
            The persistent store: a directory, or a URL that fsspec knows (``s3://bucket/prefix``). With ``memory://``
            the functions are threads of this process, and nothing outlives it.
        job : str
            The FL job; several can share a root.
        policy : str or Policy
            The caching policy, one of ``flstore.policies.names()``, or an instance.
        **options
            ``policy_options`` (parameters of the policy), ``storage_options`` (for fsspec), ``write_buffer`` (bytes
            that may wait to be written), ``fsync`` (local writes survive a loss of power), ``ping_deadline_s`` (a
            function that does not answer for so long is routed around until it does; default 2 s), ``scratch_share``
            (the part of a function's memory that is kept for requests; default 0.25).
        """
        if isinstance(functions, bool) or not isinstance(functions, int) or functions < 1:
            raise InvalidParameterError(f"functions must be an integer of at least 1, got {functions!r}")
        from flstore.functions.clusters import start_local

        memory_bytes = function_memory(memory, functions)
        return cls(
            root, lambda processes: start_local(functions, processes), memory_bytes, job=job, policy=policy, **options
        )

    @classmethod
    def connect(
        cls,
        address: str,
        root: str,
        storage_options: Mapping[str, Any] | None = None,
        memory: int | str | None = None,
        security: Any = None,
        insecure: bool = False,
        **options: Any,
    ) -> FLStore:
        """Use the workers of a Dask cluster that somebody else runs as cache functions, those that join later too.

        Closing the store leaves the cluster and the other stores on it as they are.

        Parameters
        ----------
        address : str
            Of the scheduler: ``tls://host:port``. Dask unpickles what members of the cluster send: who may join it is
            who is trusted.
        root : str
            The persistent store; the workers must be able to reach it (``s3://...``, or a shared directory).
        storage_options : dict, optional
            For fsspec; sent to the workers over the cluster's own connections.
        memory : int or str, optional
            Memory of a function. A worker whose own limit is lower gives 0.6 of that, and a warning names it.
            Default: 4 GiB.
        security : distributed.Security or dict, optional
            TLS files: a dict has ``tls_ca_file``, ``tls_client_cert`` and ``tls_client_key``. Default: Dask's
            configuration.
        insecure : bool, default False
            Allow ``tcp://`` to another machine.
        **options
            As for :meth:`local`.

        Raises
        ------
        InvalidParameterError
            The address is none, or unencrypted and not on this machine; said before any connection is tried.
        ClusterError
            The scheduler did not answer within 5 s, or a worker runs another version of Python or flstore.
        """
        from flstore.functions.clusters import check_address, join

        check_address(address, insecure)
        if str(root).startswith("memory:"):
            raise InvalidParameterError(
                "memory:// lives in one process, and the functions are others: use a directory or s3://"
            )
        memory_bytes = function_memory(memory, 1) if memory is not None else DEFAULT_BYTES
        options = {"storage_options": storage_options, **options}
        return cls(root, lambda _: (join(address, security, insecure), None), memory_bytes, **options)

    # --- the engine -------------------------------------------------------------------------------------------------

    def _header(self) -> dict[str, Any]:
        from flstore import __version__

        return {
            "flstore": __version__, "python": platform.python_version(), "job": self.job, "policy": self._policy.name,
            "policy_options": self._policy_options, "memory_bytes": self._memory_bytes,
        }  # fmt: skip

    def _handle(
        self, event: Event, values: Mapping[Key, Any] | None = None, question: Question | None = None
    ) -> list[Action]:
        """Let the engine decide about an event, log it, and set in motion what it decided, all in one order."""
        with self._lock:
            actions = step(self._state, self._policy, event)
            self._log.append(event, actions)
            if self._closed:
                return actions
            needed: set[int] = set()
            if actions and isinstance(actions[-1], Run):
                _, needed = self._state.loading(actions[-1].held)
            for action in actions:
                if isinstance(action, Load | Drop):
                    prefetch = question is not None and isinstance(action, Load) and action.generation not in needed
                    self._move(action, values or {}, question.future if question is not None and prefetch else None)
        return actions

    def _move(self, action: Load | Drop, values: Mapping[Key, Any], after: Future[Any] | None) -> None:
        function = self._state.functions.get(action.function)
        if function is None:
            return
        at_hand: dict[Key, Any] = {}
        if isinstance(action, Load):
            found = ((key, values.get(key, self._not_durable(key))) for key in self._catalogue.keys(action.keys))
            at_hand = {key: value for key, value in found if value is not None}
        self._moves.start(action, function.incarnation, at_hand, after)

    def _not_durable(self, key: Key) -> Any:
        """The bytes of an object that the persistent store may not have yet, or None."""
        if key.kind is Kind.METADATA:
            return self._rows.get(key.round, {}).get(str(key.client))
        return self._writer.pending(key)

    def _arrived(self, events: list[Ingested], values: Mapping[Key, Any]) -> None:
        for event in events:
            self._handle(event, values)

    def _take_in(self, arrival: Any) -> Receipt:
        receipt = super()._take_in(arrival)
        with self._lock:
            largest = most_bytes(self._state)
        too_large = {k: memoryview(b).nbytes for k, b in arrival.buffers.items() if 0 < largest < memoryview(b).nbytes}
        if too_large:
            key, size = next(iter(too_large.items()))
            raise CapacityError(
                f"{key} has {size} bytes, more than the {largest} bytes that the functions can cache. It is being "
                f"written to the persistent store all the same; open the store with more memory, such as "
                f"FLStore.local(memory={2 * size})"
            )
        return receipt

    def _function_joined(self, function: Function, held: list[Any]) -> None:
        holds = []
        for values, size_bytes, _ in held:
            part = self._catalogue.key_sets([wire.key_of(values)])[0]
            holds.append((part, np.array([size_bytes], dtype=np.int64)))
        self._note(FunctionJoined(function.number, function.capacity_bytes, function.incarnation, tuple(holds)))

    def _function_lost(self, function: Function) -> None:
        if not self._closed:
            self._note(FunctionLost(function.number, function.incarnation))

    def _note(self, event: Event) -> None:
        """Let the engine hear of something; a policy that raises must not stop those who report it."""
        try:
            self._handle(event)
        except PolicyError as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)

    # --- requests ---------------------------------------------------------------------------------------------------

    def _answer(self, question: Question) -> None:
        scope, record = question.scope, question.record
        with self._lock:
            event = Requested(
                record.request,
                self._catalogue.number,
                question.workload.name,
                question.workload.policy_class,
                scope.round,
                None if scope.client is None else self._catalogue.ids.find(scope.client),
                self._catalogue.key_sets(question.keys),
            )
            question.hit_keys = self._ready(event)
            try:
                run = self._handle(event, question=question)[-1]
            except PolicyError as error:
                question.fail(error)
                return
        assert isinstance(run, Run)
        record.hits, record.late_hits, record.misses = run.counts.hits, run.counts.late_hits, run.counts.misses
        self._serving.start(question, event, run)

    def _ready(self, event: Requested) -> set[Key]:
        """Which keys of a request are in memory now: its hits, by name."""
        ready: set[Key] = set()
        for part in event.keys:
            for (job, kind, round), table, clients, rows in self._state.resolve(part):
                if table is not None:
                    here = clients[(rows >= 0) & table.any_ready(rows)]
                    if len(here):
                        ready.update(self._catalogue.keys(KeySet.of_round(job, kind, round, here)))
        return ready

    # --- life -------------------------------------------------------------------------------------------------------

    @property
    def log(self) -> EventLog:
        """Every event that the engine was told, in order, with digests of its decisions."""
        return self._log

    def flush(self) -> None:
        """Wait until all that was ingested is durable and all loads that were decided are done."""
        super().flush()
        self._moves.wait(stop=lambda: self._closed)

    def inventory(self) -> dict[str, list[Key]]:
        """What each function holds, asked of the functions themselves (not of the index); waits for silent ones."""
        self._check_open()

        async def ask() -> dict[str, list[Key]]:
            found = {}
            for number, function in list(self._pool.functions.items()):
                reply = await self._pool.call(number, "inventory", renew=False)
                found[function.name] = sorted(wire.key_of(values) for values, _, _ in wire.unpack(reply["held"]))
            return found

        result: dict[str, list[Key]] = self._pool.sync(ask())
        return result

    def status(self) -> Status:
        """What the store holds and how requests fared; shows itself in a notebook."""
        with self._lock:
            names = {} if self._closed else {number: f.name for number, f in self._pool.functions.items()}
            functions = function_statuses(self._state, names)
        return Status.of(self, self._policy.name, functions, self._writer.pending_bytes, self._tracker.frame())

    def _shut(self, last: Any) -> None:
        pool = getattr(self, "_pool", None)
        if hasattr(self, "_serving"):
            self._serving.abandon()
        try:
            if pool is not None:
                pool.close()
        finally:
            last()

    def __repr__(self) -> str:
        return repr(self.status())

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()
