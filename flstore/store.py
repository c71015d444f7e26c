"""FLStore: wires the parts together. The class that a user holds."""

# Longer than 300 lines because the docstrings of its constructors are the manual.

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from flstore import policies
from flstore.codec import checksum_of
from flstore.deletion import confirm_drops
from flstore.deriving import Deriving
from flstore.elasticity import Elasticity
from flstore.engine import EventLog
from flstore.engine.removal import holding
from flstore.errors import (
    CapacityError,
    CorruptObjectError,
    FLStoreError,
    FunctionLostError,
    InvalidParameterError,
)
from flstore.functions import wire
from flstore.healing import DAMAGED, Healing
from flstore.here import answer_here
from flstore.in_parts import most_bytes
from flstore.metadata_window import MetadataWindow, answer
from flstore.moves import Moves, Origin
from flstore.persistence import Verification
from flstore.persistence.values import take
from flstore.policies.base import Policy
from flstore.policy_faults import PolicyFaults
from flstore.preparing import prepare
from flstore.results import Question, Receipt, Result
from flstore.retention import Retention, check_retention
from flstore.serving import Serving
from flstore.sizing import FunctionSize, function_size
from flstore.status import Status, function_statuses
from flstore.system import System
from flstore.types import (
    Action,
    Deleted,
    Drop,
    Event,
    Feedback,
    FunctionJoined,
    FunctionLost,
    Ingested,
    Key,
    KeySet,
    Kind,
    Load,
    Prepare,
    Requested,
    Run,
    Source,
)
from flstore.workloads.base import Scope, Workload
from flstore.writing import Writing

if TYPE_CHECKING:
    from flstore.attach import Reader
    from flstore.functions.pool import Function
    from flstore.monitor import Monitor
    from flstore.task import Task


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
        size: Callable[[int], FunctionSize],
        *,
        job: str = "default",
        policy: str | Policy = "tailored",
        policy_options: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        write_buffer: int = 1 << 30,
        fsync: bool = False,
        ping_deadline_s: float = 2.0,
        replicas: int = 0,
        takeover: bool = False,
        lease_s: float = 60.0,
        max_in_flight: int = 1000,
        retention: int | None = None,
        scratch_share: float = 0.25,
        derive: bool = True,
    ) -> None:
        from flstore.functions.pool import FunctionPool

        check_retention(retention)
        if not ping_deadline_s > 0:
            raise InvalidParameterError(f"ping_deadline_s must be positive, got {ping_deadline_s!r}")
        if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 0:
            raise InvalidParameterError(f"replicas must be an integer of at least 0, got {replicas!r}")
        if not lease_s > ping_deadline_s:
            raise InvalidParameterError(f"lease_s must be above ping_deadline_s={ping_deadline_s}, got {lease_s!r}")
        if not 0 < scratch_share < 1:
            raise InvalidParameterError(f"scratch_share must be between 0 and 1, got {scratch_share!r}")
        self._policy = policies.make_live(policy, **(policy_options or {}))
        self._policy_options = dict(policy_options or {})
        self._writing = Writing(self, takeover, ping_deadline_s)
        self._opened: dict[int, dict[str, dict[str, Any]]] = {}
        self._monitor: Monitor | None = None
        try:
            super().__init__(
                root, job=job, storage_options=storage_options, write_buffer=write_buffer, fsync=fsync,
                replicas=replicas, max_in_flight=max_in_flight,
            )  # fmt: skip
        except BaseException:
            self._writing.end()
            raise
        self._window = MetadataWindow(self._catalogue, self._opened)
        self._opened = {}
        self._retention = Retention(retention, self._catalogue, self._deletions) if retention is not None else None
        self._size = size(self._largest_update())
        self._log = EventLog(self._header(), list(self._initial))
        self._faults = PolicyFaults(self._log)
        try:
            self._pool = FunctionPool(
                *cluster(not self._objects.is_local_memory),
                self._size.memory_bytes,
                self._objects.spec,
                joined=self._function_joined,
                lost=self._function_lost,
                ping_deadline_s=ping_deadline_s,
                compute_threads=self._size.cores,
                telling=self._writing,
                lease_s=lease_s,
                scratch_share=scratch_share,
            )
            self._healing = Healing(self._objects, self._pool, self._catalogue, self._not_durable)
            self._moves = Moves(self._pool, self._catalogue, self._not_durable, self._healing, self._note)
            self._deriving = Deriving(self._pool, self._catalogue, self._moves, self._needs) if derive else None
            self._serving = Serving(
                self._pool,
                self._catalogue,
                self._moves,
                self._not_durable,
                self._healing,
                self._note,
                self._answer_here,
                derives=derive,
            )
            self._elasticity = Elasticity(self._pool, self._moves, self._serving, self._state, self._lock, self._note)
            self._pool.start()
            self._writing.announce(self._pool)
        except BaseException:
            self._closed = True
            self._intake.close()
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
        model: str | None = None,
        **options: Any,
    ) -> FLStore:
        """Start cache functions on this machine: one process each, on loopback, closed to other users by TLS.

        Parameters
        ----------
        functions : int, default 2
            Cache functions.
        memory : int or str, optional
            Memory of each, in bytes or as ``"2GiB"``: three quarters cache, one quarter scratch space for requests.
            Default: what the paper gives the model (section 5.1; ``flstore.sizing.SIZES``), less on a small machine.
        root : str
            The persistent store: a directory, or a URL that fsspec knows (``s3://bucket/prefix``). With ``memory://``
            the functions are threads of this process, and nothing outlives it.
        job : str
            The FL job; several can share a root.
        policy : str or Policy
            The caching policy, one of ``flstore.policies.names()``, or an instance.
        model : {"resnet18", "mobilenet_v3_small", "efficientnet_v2_s", "swin_v2_t"}, optional
            What is trained: gives the default of `memory`, and how many requests a function computes at a time (1 or
            2). Default: judged by the size of the updates that are stored; 4 GiB and 1 when there are none.
        **options
            ``policy_options`` (parameters of the policy), ``storage_options`` (for fsspec), ``write_buffer`` (bytes
            that may wait to be written), ``fsync`` (local writes survive a loss of power), ``ping_deadline_s`` (a
            function that does not answer for so long is routed around until it does; default 2 s), ``replicas`` (copies
            of what is in memory on as many other functions, so that a lost function costs no data in memory, and
            requests spread; default 0), ``takeover`` (become the writer of this job even if another process is; that
            one is told when it next ingests), ``max_in_flight`` (requests that may be open at a time, the others wait;
            default 1000), ``retention`` (rounds that are kept: once a newer one comes, older ones are deleted in the
            background, for good; the aggregate that the oldest kept one started from stays. Default: all),
            ``scratch_share`` (the part of a function's memory that is kept for requests; default 0.25), ``derive``
            (functions compute what the next requests will need of a round, its Gram matrix for instance, while they are
            idle, and keep what requests computed as long as the round; default True).

        Raises
        ------
        WriterExistsError
            Another process writes this job below this root. In this process, the earlier store is closed instead.
        """
        if isinstance(functions, bool) or not isinstance(functions, int) or functions < 1:
            raise InvalidParameterError(f"functions must be an integer of at least 1, got {functions!r}")
        from flstore.functions.clusters import start_local

        function_size(memory, model)  # what is wrong with them is said before anything starts
        return cls(
            root,
            lambda processes: start_local(functions, processes),
            lambda largest: function_size(memory, model, largest, functions),
            job=job,
            policy=policy,
            **options,
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
        model: str | None = None,
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
            Default: by model, as for :meth:`local`.
        security : distributed.Security or dict, optional
            TLS files: a dict has ``tls_ca_file``, ``tls_client_cert`` and ``tls_client_key``. Default: Dask's
            configuration.
        insecure : bool, default False
            Allow ``tcp://`` to another machine.
        model : str, optional
            As for :meth:`local`.
        **options
            As for :meth:`local`; and ``lease_s``: when this process dies without closing the store, its functions free
            their memory after so many seconds (default 60 s).

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
        function_size(memory, model)
        options = {"storage_options": storage_options, **options}
        return cls(
            root,
            lambda _: (join(address, security, insecure), None),
            lambda largest: function_size(memory, model, largest),
            **options,
        )

    def _largest_update(self) -> int:
        return max((int(t.sizes.max()) for slot, t in self._state.slots() if slot[1] is Kind.UPDATE), default=0)

    @classmethod
    def attach(
        cls,
        root: str,
        job: str = "default",
        storage_options: Mapping[str, Any] | None = None,
        connection: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Reader:
        """Ask a job that another process writes: a store with the same look-up and requests, which takes nothing in.

        Takes and raises what :class:`flstore.attach.Reader` does.

        Parameters
        ----------
        root, job, storage_options, connection : optional
            As for :class:`flstore.attach.Reader`.
        **options
            The same.

        Examples
        --------
        >>> with FLStore.attach("./flstore-data") as reader:
        ...     reader.request("malicious_filtering", round=3).value.flagged
        []
        """
        from flstore.attach import Reader

        return Reader(root, job, storage_options, connection, **options)

    # --- the engine -------------------------------------------------------------------------------------------------

    def _header(self) -> dict[str, Any]:
        from flstore import __version__

        return {
            "flstore": __version__, "python": platform.python_version(), "job": self.job, "policy": self._policy.name,
            "policy_options": self._policy_options, "memory_bytes": self._size.memory_bytes,
            "replicas": self._state.replicas,
        }  # fmt: skip

    def _handle(
        self, event: Event, values: Mapping[Key, Any] | None = None, question: Question | None = None
    ) -> list[Action]:
        """Let the engine decide about an event, log it, and set in motion what it decided, all in one order."""
        with self._lock:
            actions = self._faults.step(self._state, self._policy, event)
            self._window.note(event, actions, values or {})
            if self._closed:
                return actions
            needed: set[int] = set()
            if len(actions) > 1 and isinstance(actions[-1], Run):
                needed = self._state.loading(actions[-1].held).generations
            for action in actions:
                if isinstance(action, Load | Drop):
                    prefetch = question is not None and isinstance(action, Load) and action.generation not in needed
                    self._move(action, values or {}, question.future if question is not None and prefetch else None)
                elif isinstance(action, Prepare) and self._deriving is not None:
                    self._deriving.start(action, None if question is None else question.future)
        self._faults.tell()
        return actions

    def _move(self, action: Load | Drop, values: Mapping[Key, Any], after: Future[Any] | None) -> None:
        function = self._state.functions.get(action.function)
        if function is None:
            return
        at_hand: dict[Key, Any] = {}
        origin = None
        if isinstance(action, Load) and action.source is Source.PEER:
            origin = self._origin(action)
        elif isinstance(action, Load):
            found = ((key, values.get(key, self._not_durable(key))) for key in self._catalogue.keys(action.keys))
            at_hand = {key: value for key, value in found if value is not None}
        self._moves.start(action, function.incarnation, at_hand, after, origin)

    def _origin(self, action: Load) -> Origin:
        """Which other functions hold what shall be copied, and which loads have to be done before.

        Only loads that were decided before: two copies must not wait for each other.
        """
        peers: dict[Key, str] = {}
        held: list[tuple[int, KeySet]] = []
        for number, function in list(self._pool.functions.items()):
            if number != action.function:
                there = self._state.holds(number, action.keys, before=action.generation).tolist()
                keys = [k for k, holds in zip(self._catalogue.keys(action.keys), there, strict=True) if holds]
                peers.update({key: function.address for key in keys if key not in peers})
                held.append((number, action.keys))
        awaited = self._state.loading(held).generations
        return Origin(peers, frozenset(g for g in awaited if g < action.generation))

    def _not_durable(self, key: Key) -> Any:
        """The bytes of an object that the persistent store may not have yet, or None."""
        if key.kind is Kind.METADATA:
            return self._rows.get(key.round, {}).get(str(key.client))
        return self._writer.pending(key)

    def _arrived(self, events: list[Ingested], values: Mapping[Key, Any]) -> None:
        for event in events:
            self._handle(event, values)

    def _found(self, round: int, rows: dict[str, dict[str, Any]]) -> None:
        self._opened[round] = rows

    def _claim(self) -> None:
        super()._claim()
        self._writing.begin(self._objects)

    def _check_may_write(self) -> None:
        super()._check_may_write()
        self._writing.check()

    def _take_in(self, arrival: Any) -> Receipt:
        if self._retention is not None:
            self._retention.admit(arrival)
        with self._writing.taking_in(arrival) as noted:
            if self._retention is not None:
                self._retention.make_room(arrival)
            receipt = super()._take_in(arrival)
            noted.writes = receipt._writes
        if self._retention is not None:
            self._retention.start()
        return receipt

    def _check_sizes(self, sizes: Mapping[Key, int]) -> None:
        with self._lock:
            largest = most_bytes(self._state)
        for key, size in sizes.items():
            if 0 < largest < size:
                raise CapacityError(
                    f"{key} has {size} bytes, more than the {largest} bytes that the functions can cache. It is being "
                    f"written to the persistent store all the same; open the store with more memory, such as "
                    f"FLStore.local(memory={2 * size})"
                )

    def _function_joined(self, function: Function, held: list[Any]) -> None:
        holds = []
        with self._lock:
            for values, size_bytes, generation in held:
                part = self._catalogue.key_sets([wire.key_of(values)])[0]
                current = generation > self._state.since(part)[0]  # else another object of that name was deleted
                holds.append((part, np.array([size_bytes if current else 0], dtype=np.int64)))
            self._note(FunctionJoined(function.number, function.capacity_bytes, function.incarnation, tuple(holds)))
        if self._task is not None:
            prepare(self._pool, function.number, self._task)

    def task(
        self, model: str | None = None, data: str | None = None, metric: str | None = None, precision: str | None = None
    ) -> Task | None:
        before, task = self._task, super().task(model, data, metric, precision)
        if task is not None and task != before:
            for number in list(self._pool.functions):
                prepare(self._pool, number, task)
        return task

    task.__doc__ = System.task.__doc__

    def _function_lost(self, function: Function) -> None:
        if not self._closed:
            self._note(FunctionLost(function.number, function.incarnation))

    def _note(self, event: Event) -> None:
        """Let the engine hear of something."""
        self._handle(event)

    def _read(self, key: Key) -> Mapping[str, Any]:
        try:
            return super()._read(key)
        except DAMAGED as error:
            return take(key, self._mended(key, error))[0]

    def _known_checksum(self, key: Key) -> str:
        try:
            return super()._known_checksum(key)
        except CorruptObjectError as error:
            return checksum_of(self._mended(key, error))

    def _mended(self, key: Key, error: FLStoreError) -> Any:
        """A whole copy of an object that could not be read."""
        if self._closed:
            raise error
        return self._healing.value_now(key, error)

    def _forget(self, event: Deleted) -> list[Drop]:
        with self._lock:
            drops = holding(self._state, event.keys)
            self._handle(event)
        return drops

    def _await_dropped(self, drops: list[Drop]) -> None:
        self._pool.sync(confirm_drops(self._pool, self._catalogue, drops))

    # --- requests ---------------------------------------------------------------------------------------------------

    def _needs(self, workload: Workload, scope: Scope) -> list[Key]:
        return self._window.needs(workload, scope) if workload.in_engine else super()._needs(workload, scope)

    def _answer(self, question: Question) -> None:
        scope, record = question.scope, question.record
        with self._lock:
            plan = self._window.plan(question)
            event = Requested(
                record.request,
                self._catalogue.number,
                question.workload.name,
                question.workload.policy_class,
                scope.round,
                None if scope.client is None else self._catalogue.ids.find(scope.client),
                self._catalogue.key_sets(question.keys) if plan is None else plan.parts,
            )
            if plan is None:
                question.hit_keys = self._ready(event, question.keys)
            if self._deriving is not None:
                self._deriving.asked(question.workload)
            run = self._handle(event, question=question)[-1]
        if plan is not None:
            answer(question, plan)
            return
        assert isinstance(run, Run)
        record.hits, record.late_hits, record.misses = run.counts.hits, run.counts.late_hits, run.counts.misses
        self._serving.start(question, event, run)

    def _answer_here(self, question: Question, reason: FLStoreError) -> Any:
        return answer_here(question, reason, self._objects, self._not_durable, self._healing.value_now)

    def _enter(self, timeout_s: float | None) -> bool:
        try:
            on_our_loop = asyncio.get_running_loop() is self._pool.loop
        except RuntimeError:
            on_our_loop = False
        if on_our_loop:  # a callback of a request: if it waited here, no request would end any more
            self._gate.enter_now()
            return True
        return super()._enter(timeout_s)

    def _ready(self, event: Requested, keys: list[Key]) -> set[Key]:
        """Which keys of a request are in memory now: its hits, by name."""
        found: list[KeySet] = []
        for part in event.keys:
            for (job, kind, round), table, clients, rows in self._state.resolve(part):
                if table is not None:
                    found.append(KeySet.of_round(job, kind, round, clients[(rows >= 0) & table.any_ready(rows)]))
        if sum(map(len, found)) == len(keys):  # as a rule; it spares the names
            return set(keys)
        return {key for part in found for key in self._catalogue.keys(part)}

    # --- life -------------------------------------------------------------------------------------------------------

    @property
    def log(self) -> EventLog:
        """Every event that the engine was told, in order, with digests of its decisions."""
        return self._log

    def flush(self) -> None:
        """Wait until all that was ingested is durable, what is too old is deleted, and decided loads are done."""
        self._finish(super().flush, *([self._retention.flush] if self._retention is not None else []))
        self._moves.wait(stop=lambda: self._closed)

    def feedback(self, result: Result | int, useful: bool) -> None:
        """Say whether an answer was of use. The policy ``adaptive`` learns from it; others do not mind.

        It is an event of the log, so a replay hears of it at the same place.

        Parameters
        ----------
        result : Result or int
            The answer, or the number of its request (``result.record.request``, ``store.requests``).
        useful : bool
            Whether it was of use. Said again, the last word counts.

        Raises
        ------
        InvalidParameterError
            No request has this number, or `useful` is not a bool.
        """
        self._check_open()
        number = result.record.request if isinstance(result, Result) else result
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= len(self._tracker):
            raise InvalidParameterError(f"feedback is about an answer or the number of a request, got {result!r}")
        if not isinstance(useful, bool | np.bool_):
            raise InvalidParameterError(f"useful must be True or False, got {useful!r}")
        self._handle(Feedback(number, bool(useful)))

    def scale(self, functions: int) -> None:
        """Have so many cache functions from now on; returns when they have come or gone.

        Before a function is taken away, what it holds is copied to others as far as they have room, and the requests
        that run on it end. New functions fill up as training and requests go on.

        Parameters
        ----------
        functions : int
            How many, at least 1.

        Raises
        ------
        InvalidParameterError
            Not a number of functions.
        ClusterError
            The cluster belongs to somebody else (:meth:`connect`), or it did not get there in time.
        """
        self._check_open()
        self._elasticity.scale(functions)

    def wait_for_functions(self, functions: int, timeout_s: float | None = 60.0) -> None:
        """Return when there are so many cache functions, as workers of a cluster join when they have started.

        Parameters
        ----------
        functions : int
            How many, at least 1.
        timeout_s : float, optional
            Seconds to wait; None for ever.

        Raises
        ------
        InvalidParameterError
            Not a number of functions.
        ClusterError
            There were fewer when the time was over.

        Examples
        --------
        >>> store.wait_for_functions(1)
        """
        self._check_open()
        self._elasticity.wait_for(functions, timeout_s)

    def verify(self, heal: bool = True, progress: bool = True) -> Verification:
        """Read every object of the job in the persistent store and compare it with its checksum; shows itself.

        Parameters
        ----------
        heal : bool, default True
            Mend what is damaged or missing with a whole copy from the write buffer or a function's memory, where there
            is one. A whole object is never replaced.
        progress : bool, default True
            Show a progress bar in a terminal or notebook.

        Raises
        ------
        StoreError
            The root cannot be read.
        """
        self._check_open()
        return self._healing.verify(self.job, heal, progress)

    def inventory(self) -> dict[str, list[Key]]:
        """What each function holds, asked of the functions themselves (not of the index); waits for silent ones."""
        self._check_open()

        async def ask() -> dict[str, list[Key]]:
            found = {}
            for number, function in list(self._pool.functions.items()):
                try:
                    reply = await self._pool.call(number, "inventory", renew=False)
                except FunctionLostError:
                    continue  # it holds nothing any more
                found[function.name] = sorted(wire.key_of(values) for values, _, _ in wire.unpack(reply["held"]))
            return found

        result: dict[str, list[Key]] = self._pool.sync(ask())
        return result

    def status(self) -> Status:
        """What the store holds and how requests fared; shows itself in a notebook."""
        self._intake.settle()
        with self._lock:
            names = {number: f.name for number, f in list(self._pool.functions.items())}
            functions = function_statuses(self._state, names, self._closed)
        pending_bytes, failed = self._writer.pending_bytes, len(self._writer.failed())
        problem = f"{failed:,} objects could not be written, see store.not_stored." if failed else ""
        dashboard = self._pool.dashboard
        return Status.of(
            self, self._policy.name, functions, pending_bytes, self._tracker.by_class(), problem, dashboard=dashboard
        )

    def monitor(self, interval_s: float = 1.0) -> Monitor:
        """Watch the store live in a notebook, below this cell, while training and requests go on.

        Cache map, requests in flight, hit ratio, memory, losses and recoveries. It stops when it is closed (it is a
        context manager too), when another one is opened, and with the store; the last view stays in the notebook.

        Parameters
        ----------
        interval_s : float, default 1.0
            Seconds between two looks at least.

        Returns
        -------
        Monitor
            What draws; ``print(store.monitor())`` states the same facts where there is no notebook.

        Raises
        ------
        InvalidParameterError
            The interval is not positive.
        OptionalDependencyError
            ipywidgets is not installed (extra ``notebook``).
        StoreClosedError
            The store was closed; :meth:`status` still shows it.

        Examples
        --------
        >>> with store.monitor() as monitor:
        ...     answer = store.request("clustering", round=3, k=2)
        >>> monitor.closed
        True
        """
        from flstore.monitor import Monitor

        self._check_open()
        opened = Monitor(self, interval_s)
        self._end_monitor()
        self._monitor = opened
        return opened

    def _end_monitor(self) -> None:
        if self._monitor is not None:
            self._monitor.close()

    def _shut(self, last: Any) -> None:
        pool = getattr(self, "_pool", None)
        if hasattr(self, "_serving"):
            self._serving.abandon()
        self._writing.withdraw()
        try:
            if pool is not None:
                pool.close()
        finally:
            try:
                last()
            finally:
                self._writing.end()

    def __repr__(self) -> str:
        return repr(self.status())

    def _repr_html_(self) -> str:
        return self.status()._repr_html_()
