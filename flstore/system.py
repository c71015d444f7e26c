"""What every system has in common: ingest, look-up, requests and their records.

FLStore and the baselines differ in one thing only, the path of the data from where it rests to where the workload
runs; so everything else is here, once.
"""

# Longer than 300 lines because the docstrings of its public methods are the manual.

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from flstore import not_stored, workloads
from flstore.catalogue import CLOSED, Catalogue
from flstore.codec import checksum_of
from flstore.deletion import Deletions
from flstore.engine import State, Tracker
from flstore.engine.removal import delete
from flstore.errors import InvalidParameterError, RequestTimeoutError, StoreClosedError, UpdateNotFoundError
from flstore.gate import Gate
from flstore.ingest import Arrival, Plan, Stored, check, encode
from flstore.intake import Intake
from flstore.persistence import ObjectStore, Removed, Writer
from flstore.persistence.layout import encode_id
from flstore.persistence.tables import to_table
from flstore.persistence.threads import concurrently
from flstore.persistence.values import take
from flstore.results import Question, Receipt, Result
from flstore.task import Task
from flstore.types import Deleted, Drop, Ingested, Key, Kind
from flstore.workloads.base import Scope, Workload

if TYPE_CHECKING:
    import pandas as pd

    from flstore.plotting import Plots

RECENT_ROUNDS = 32
"""Rounds whose metadata rows and tensor shapes are kept at hand, because metrics and late clients come afterwards."""

_READERS = 8


class System(ABC):
    """Base of FLStore and the baselines.

    Parameters
    ----------
    root : str
        Where the persistent store is: a path, or a URL that fsspec knows (``s3://bucket/prefix``).
    job : str
        The FL job.
    storage_options : dict, optional
        For fsspec (credentials, endpoint, ...). Never shown.
    write_buffer : int
        Bytes that may wait to be written before an ingest blocks.
    fsync : bool
        Make local writes survive a loss of power.
    replicas : int
        Copies in memory of what is held in memory, on other functions.
    max_in_flight : int
        Requests that may be open at a time; further ones wait in line before they start.
    """

    name: ClassVar[str]

    def __init__(
        self,
        root: str,
        *,
        job: str = "default",
        storage_options: Mapping[str, Any] | None = None,
        write_buffer: int = 1 << 30,
        fsync: bool = False,
        replicas: int = 0,
        max_in_flight: int = 1000,
    ) -> None:
        encode_id("job", job)
        if isinstance(max_in_flight, bool) or not isinstance(max_in_flight, int) or max_in_flight < 1:
            raise InvalidParameterError(f"max_in_flight must be an integer of at least 1, got {max_in_flight!r}")
        self._gate = Gate(max_in_flight)
        self.job = job
        self._state = State(replicas=replicas)
        self._catalogue = Catalogue(job, self._state)
        self._lock = self._catalogue.lock
        self._objects = self._open_objects(str(root), storage_options, fsync)
        self._claim()
        self._initial = self._catalogue.read(self._objects, found=self._found)
        self._writer = Writer(self._objects, write_buffer=write_buffer)
        self._tracker = Tracker(self.name)
        self._ingest_lock = threading.RLock()
        self._intake = Intake(write_buffer)
        self._feeders: list[Any] = []
        self._task: Task | None = None
        self._signatures: dict[int, Any] = {}
        self._rows: dict[int, dict[str, Any]] = {}
        self._deletions = Deletions(
            self._catalogue, self._objects, self._writer, self._rows, self._signatures, self._ingest_lock,
            tell=self._forget, confirm=self._await_dropped, settle=lambda: self._intake.settle(),
        )  # fmt: skip
        self._closed = False

    def _open_objects(self, root: str, storage_options: Mapping[str, Any] | None, fsync: bool) -> ObjectStore:
        """The persistent store; a baseline may keep its objects in another way."""
        return ObjectStore(root, storage_options, fsync=fsync)

    def _found(self, round: int, rows: dict[str, dict[str, Any]]) -> None:  # noqa: B027 (few keep them)
        """Hear of the metadata that was stored when the system was opened."""

    def _claim(self) -> None:
        """Make sure that the root can be written, before it is listed."""
        self._objects.check_writable()

    def _check_may_write(self) -> None:
        """Raise when nothing can be taken in."""
        self._check_open()

    @property
    def root(self) -> str:
        """Where the persistent store is."""
        return self._objects.root

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return self._closed

    # --- data in ----------------------------------------------------------------------------------------------------

    def ingest(
        self,
        round: int,
        updates: Mapping[str, Mapping[str, Any]],
        aggregate: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        copy: bool = True,
    ) -> Receipt:
        """Take in what a round brought; may be called several times for one round.

        An update belongs to the round after the aggregate that it started from: what differences (``of="delta"``) are
        taken from. A round is closed once its aggregate was taken in by an earlier call, or by :meth:`close_round`. An
        update that comes for a closed round is kept like any other, and its metadata says ``late`` and ``staleness``:
        how many rounds the newest closed one is ahead of the aggregate that it started from. So an asynchronous server
        (FedBuff) whose newest aggregate is 9 takes in what a client made of aggregate 6 as an update of round 7, and
        its staleness is 3.

        Parameters
        ----------
        round : int
            The round, from 0 on (round 0 has only an aggregate: the model that training starts from).
        updates : dict of client id to dict of tensor name to array
            What the clients sent: NumPy arrays or torch tensors.
        aggregate : dict of tensor name to array, optional
            The global model after the round.
        metadata : dict of client id to dict, optional
            What is known about each client's work: JSON values by name. Sizes and non-finite values are added.
        copy : bool, default True
            With True all arrays were copied when this returns, and may be reused. With False this returns as soon as
            the arguments were checked, in milliseconds; a thread encodes and hands on what was given, and the caller
            promises not to change the arrays before ``receipt.wait()`` or :meth:`flush` has returned. Whatever is
            asked of the store afterwards sees the round: such calls wait until it was taken in. What can only be
            found later (memory ran out, an earlier write failed) is raised by ``receipt.wait()`` and by the next
            flush or ingest, and the round was then not taken in. A client that is stored already is compared at once.

        Returns
        -------
        Receipt
            What is new; ``.wait()`` returns when it is durable; ``.waited_s`` says how long the call was held up by a
            full write buffer.

        Raises
        ------
        InvalidUpdateError
            Nothing to ingest, unsupported tensors, or tensors that differ from those of the round. Nothing was kept.
        InvalidIdError
            A client id that cannot name an object. Nothing was kept.
        UpdateExistsError
            A client already sent something else in this round. Nothing was kept or overwritten.
        WriterExistsError
            Another process has taken over this job. Nothing was kept; what was taken in before is still written.
        StoreError
            An earlier write failed for good; its update is still in memory (``flush`` tries again).
        CapacityError
            An update is larger than a cache function. Everything was kept in the persistent store all the same.
        """
        self._check_may_write()
        stored = Stored(self._known_update, self._known_checksum, self._known_metadata)
        with self._ingest_lock:
            self._writer.raise_failed()
            self._intake.raise_failed()
            plan = check(self._catalogue, stored, self._signatures.get(round), round, updates, aggregate, metadata)
            known = any(self._catalogue.has(key) for key in plan.layouts) or self._intake.holds(plan.layouts)
            if copy or known:
                self._intake.settle()
                receipt = self._encode_and_take_in(stored, plan)
            else:
                receipt = self._take_in_later(stored, plan)
        self._check_sizes(plan.sizes())
        return receipt

    def close_round(self, round: int) -> None:
        """Say that a round is over though it has no aggregate (which closes it too): what comes for it now is late.

        Nothing is refused; see :meth:`ingest`. It is kept in the persistent store. Closing twice is closing once.

        Parameters
        ----------
        round : int
            The round.

        Raises
        ------
        UpdateNotFoundError
            Nothing was taken in of this round; the nearest rounds are named.
        ReaderError, WriterExistsError, StoreError
            As for :meth:`ingest`.
        """
        self._check_may_write()
        with self._ingest_lock:
            self._intake.settle()
            if self._catalogue.is_closed(round):
                return
            if not self._catalogue.clients_with_metadata(round):
                self._catalogue.clients(round)  # raises for a round of which nothing is known
            self._writer.submit_metadata(self.job, round, {}, {CLOSED: True})
            with self._lock:
                self._catalogue.told_closed.add(round)

    def closed_rounds(self) -> list[int]:
        """Rounds that are over, ascending: those with an aggregate, and those that were closed by hand."""
        self._intake.settle()
        return self._catalogue.closed()

    def _take_in_later(self, stored: Stored, plan: Plan) -> Receipt:
        size = sum(plan.sizes().values())
        waited_s = self._intake.wait_for_room(size, self._writer.check_room)
        if plan.signature is not None:
            self._signatures[plan.round] = plan.signature
        later = self._intake.start(lambda: self._try_to_take_in(stored, plan), plan.layouts, size)
        clients = tuple(str(key.client) for key in plan.layouts if key.kind is Kind.UPDATE)
        return Receipt(plan.round, clients, size, waited_s=waited_s, _later=later)

    def _try_to_take_in(self, stored: Stored, plan: Plan) -> Receipt:
        try:
            return self._encode_and_take_in(stored, plan)
        except BaseException:
            if plan.round not in self._catalogue.rounds():  # then nothing binds those who try again
                self._signatures.pop(plan.round, None)
            raise

    def _encode_and_take_in(self, stored: Stored, plan: Plan) -> Receipt:
        arrival = encode(self._catalogue, stored, plan)
        receipt = self._take_in(arrival)
        for client, bad in arrival.nonfinite.items():
            warnings.warn(
                f"client {client!r} sent {bad} values that are NaN or infinite in round {plan.round}; the update was "
                f"kept, and its metadata says so ('nonfinite')",
                stacklevel=3,
            )
        return receipt

    def _check_sizes(self, sizes: Mapping[Key, int]) -> None:  # noqa: B027 (not every system has a limit)
        """Raise for objects that were kept and cannot be cached."""

    def _take_in(self, arrival: Arrival) -> Receipt:
        """Hand everything to the writer, then note it: what was not handed over is not noted."""
        writes: list[Future[Any]] = []
        taken: dict[Key, Any] = {}
        waited_s = self._writer.waited_s
        try:
            for key, buffer in arrival.buffers.items():
                writes.append(self._writer.submit(key, buffer))
                taken[key] = buffer
            if arrival.metadata:
                writes.append(self._writer.submit_metadata(self.job, arrival.round, arrival.metadata))
        finally:
            complete = len(taken) == len(arrival.buffers)
            arrival.buffers = taken
            if not complete:
                arrival.metadata_rows = {}
            self._signatures.pop(arrival.round, None)
            self._signatures[arrival.round] = arrival.signature
            while len(self._signatures) > RECENT_ROUNDS:
                del self._signatures[next(iter(self._signatures))]
            self._note_arrival(arrival)
        size = sum(memoryview(b).nbytes for b in taken.values())
        clients = tuple(str(k.client) for k in taken if k.kind is Kind.UPDATE)
        return Receipt(arrival.round, clients, size, tuple(writes), self._writer.waited_s - waited_s)

    def _note_arrival(self, arrival: Arrival) -> None:
        if arrival.metadata_rows:
            self._rows.setdefault(arrival.round, {}).update(arrival.metadata_rows)
        values: dict[Key, Any] = dict(arrival.buffers)
        values.update({Key(self.job, Kind.METADATA, arrival.round, c): row for c, row in arrival.metadata_rows.items()})
        with self._lock:
            self._catalogue.observed.note(arrival.round, arrival.metadata_rows)
            self._arrived([self._catalogue.ingested(kind, arrival.round, s) for kind, s in arrival.sizes()], values)

    def _known_update(self, key: Key) -> Any:
        """The stored form of an update: from the write buffer, else from the persistent store."""
        pending = self._writer.pending(key)
        return pending if pending is not None else self._objects.get(key)

    def _read(self, key: Key) -> Mapping[str, Any]:
        """The tensors of an update or aggregate."""
        tensors: Mapping[str, Any] = take(key, self._known_update(key))[0]
        return tensors

    def _known_checksum(self, key: Key) -> str:
        pending = self._writer.pending(key)
        return checksum_of(pending) if pending is not None else self._objects.checksum(key)

    def _known_metadata(self, round: int) -> Mapping[str, Any]:
        """The metadata rows of a round as they are now."""
        rows = self._rows.get(round)
        if rows is None:
            rows = {}
            if self._catalogue.clients_with_metadata(round):
                self._writer.flush()
                rows = self._objects.get_metadata(self.job, round)[0]
            self._rows[round] = rows
            # Rows that are not durable yet are nowhere else: requests are served from here.
            durable = [r for r in self._rows if r != round and not self._writer.metadata_pending(self.job, r)]
            for r in durable[: max(0, len(self._rows) - RECENT_ROUNDS)]:
                del self._rows[r]
        return rows

    @abstractmethod
    def _arrived(self, events: list[Ingested], values: Mapping[Key, Any]) -> None:
        """Note what was ingested (in the state, at the least); `values` are the buffers and metadata rows."""

    def observe(self, strategy: Any) -> Any:
        """Make a Flower strategy hand over what it sees, and return it: the one changed line of a Flower app.

        Parameters
        ----------
        strategy : flwr.serverapp.strategy.Strategy or flwr.server.strategy.Strategy
            Any strategy; the instance is changed in place and behaves as before.

        Examples
        --------
        >>> from flwr.serverapp.strategy import FedAvg
        >>> strategy = store.observe(FedAvg())
        """
        self._check_may_write()
        from flstore.federated.flower import observe

        return observe(self, strategy)

    def add_feeder(self, feeder: Any) -> None:
        """Register something that ingests in the background, so that :meth:`flush` and :meth:`close` wait for it.

        Parameters
        ----------
        feeder : object
            Has ``flush`` and ``close``, and lists what it lost as :class:`flstore.federated.Feeder` does.
        """
        self._feeders.append(feeder)

    def client_of(self, node_id: str) -> str | None:
        """The client that a node of the FL framework has said it is, in any round; None for one that never did.

        Parameters
        ----------
        node_id : str
            As the framework calls it.
        """
        return self._catalogue.observed.nodes.get(str(node_id))

    @property
    def not_stored(self) -> pd.DataFrame:
        """What was observed or ingested and is not in the persistent store: one row an object, with the reason.

        `kind` is "update", "aggregate", "metadata" or "observation" (a reply that could not be read at all). With
        `kept` True it waits in memory for a store that failed, and :meth:`flush` tries it again; with False it is lost.
        """
        return not_stored.frame(self.job, self._feeders, self._writer.failed(), self._catalogue.has)

    def retry_writes(self) -> None:
        """Try the writes that failed again, and wait until all is durable; raises StoreError as :meth:`flush` does."""
        self._write_all()

    # --- data gone --------------------------------------------------------------------------------------------------

    def delete(
        self,
        *,
        client: str | None = None,
        rounds: Iterable[int] | None = None,
        job: str | None = None,
        progress: bool = True,
    ) -> Removed:
        """Remove every copy of a client's data, of some rounds or of a job: from memory and from the persistent store.

        Give exactly one of the three. What is observed and not yet ingested is ingested first, and ingests wait
        meanwhile. A cache function that does not answer drops its copies before it is used again. Requests that are
        under way end as usual or with ``UpdateNotFoundError``, as all later ones do.

        What stays: the aggregates that a client contributed to (delete their rounds to be rid of those), what other
        clients' and the server's metadata say, the client's id in the records of requests, and the old versions of a
        bucket that keeps versions. What a client sends afterwards is ingested like that of any other.

        Parameters
        ----------
        client : str, optional
            All updates and metadata of this client.
        rounds : iterable of int, optional
            These rounds: updates, aggregates and metadata.
        job : str, optional
            All of this job, or of another one of this root that no store is open on.
        progress : bool, default True
            Show a progress bar in a terminal or notebook.

        Returns
        -------
        Removed
            What was removed; shows itself in a notebook.

        Raises
        ------
        InvalidParameterError
            Not exactly one of the three, or something that is no round.
        UpdateNotFoundError, UnknownNameError
            There is no such client, round or job; the nearest is named. Nothing was removed.
        StoreError
            Memory has forgotten it, the persistent store may still have some of it. May be repeated.
        CorruptObjectError
            Metadata is damaged, so that a client cannot be taken out of it; says how to go on. All else was removed.

        Examples
        --------
        >>> import numpy as np
        >>> from flstore import FLStore
        >>> with FLStore.local(functions=1, root="memory://deletion") as store:
        ...     receipt = store.ingest(1, {"7": {"w": np.ones(3)}, "8": {"w": np.zeros(3)}})
        ...     removed = store.delete(client="7")
        ...     removed.updates, removed.metadata_rows, store.clients()
        (1, 1, ['8'])
        """
        self._check_open()
        self._finish(*(feeder.flush for feeder in self._feeders))
        return self._deletions.delete(client, rounds, job, progress)

    def _forget(self, event: Deleted) -> list[Drop]:
        """Note that objects do not exist any more; what cache functions were told because of that."""
        return delete(self._state, event)

    def _await_dropped(self, drops: list[Drop]) -> None:  # noqa: B027 (a system without functions waits for none)
        """Wait until cache functions have dropped what they were told to."""

    # --- data out ---------------------------------------------------------------------------------------------------

    def rounds(self) -> list[int]:
        """Rounds with client updates, ascending."""
        self._intake.settle()
        return self._catalogue.rounds()

    def clients(self, round: int | None = None) -> list[str]:
        """Clients of a round, or all that ever took part, sorted.

        Parameters
        ----------
        round : int, optional
            A round; default all.
        """
        self._intake.settle()
        return self._catalogue.all_clients() if round is None else self._catalogue.clients(round)

    def update(self, round: int, client: str) -> dict[str, Any]:
        """What a client sent in a round, as read-only arrays by tensor name.

        Parameters
        ----------
        round : int
            The round.
        client : str
            The client.

        Raises
        ------
        UpdateNotFoundError
            Names the rounds or clients that exist.
        CorruptObjectError
            The stored object is damaged, and there is no whole copy of it in memory.
        """
        self._intake.settle()
        key = Key(self.job, Kind.UPDATE, round, str(client))
        if not self._catalogue.has(key):
            known = self._catalogue.clients(round)
            shown = ", ".join(known[:20]) + (" ..." if len(known) > 20 else "")
            raise UpdateNotFoundError(
                f"client {client!r} sent nothing in round {round}; clients of that round: {shown}"
                f"{self._catalogue.observed.why_hidden(round)}"
            )
        return dict(self._read(key))

    def aggregate(self, round: int) -> dict[str, Any]:
        """The global model after a round (round 0: before training), as read-only arrays by tensor name.

        Parameters
        ----------
        round : int
            The round.

        Raises
        ------
        UpdateNotFoundError
            Names the nearest rounds that have one.
        """
        self._intake.settle()
        key = Key(self.job, Kind.AGGREGATE, round)
        if not self._catalogue.has(key):
            have = sorted(sorted(self._catalogue.aggregates(), key=lambda r: abs(r - round))[:3])
            shown = f"nearest rounds with one: {', '.join(map(str, have))}" if have else "no round has one"
            raise UpdateNotFoundError(f"there is no aggregate of round {round}; {shown}")
        return dict(self._read(key))

    def restore(self, round: int, client: str | None = None, kind: str = "state_dict") -> Any:
        """A stored model as training takes it, so that it goes on from there.

        Dtypes, names and their order are those that were ingested; the memory is the caller's own. Tensors that came
        through Flower's older interface are named by their position.

        Parameters
        ----------
        round : int
            The aggregate after this round (0: the model that training started from).
        client : str, optional
            Not the aggregate, but the model that this client sent in the round.
        kind : {"state_dict", "array_record", "arrays"}
            Torch tensors for ``module.load_state_dict``, a Flower ``ArrayRecord`` for ``strategy.start``
            (:func:`flstore.federated.resume` makes its rounds count on), or writable NumPy arrays, by tensor name.
            Flower cannot turn a bfloat16 record into torch tensors: use "state_dict".

        Raises
        ------
        InvalidParameterError
            There is no such kind.
        UpdateNotFoundError
            There is no such model; the message names the nearest rounds or the round's clients.
        CorruptObjectError
            The stored object is damaged, and there is no whole copy of it in memory.
        OptionalDependencyError
            torch or flwr is not installed.

        Examples
        --------
        >>> from flstore.testing.sample_task import model
        >>> model().load_state_dict(store.restore(3))
        <All keys matched successfully>
        >>> len(store.restore(3, kind="array_record"))  # what the start() of a Flower strategy takes
        3
        """
        from flstore.federated.restoring import check_kind, convert

        check_kind(kind)
        return convert(self.aggregate(round) if client is None else self.update(round, client), kind)

    def metadata(self, round: int | None = None) -> pd.DataFrame:
        """What is known about each client's work: one row a (round, client), one column a field, NaN where unknown.

        The same columns come first for every framework: loss, accuracy, eval_loss, eval_accuracy, samples,
        eval_samples, duration_s, eval_duration_s, reply_s, bytes (of the stored update, where nobody says otherwise),
        lr, batch_size, epochs, cores, memory_bytes, available and payout. They take in what frameworks call otherwise
        (``num-examples``, ``train_loss``, ...), which stays as it came in the columns after them. ``available`` is,
        where nobody says, True for a client whose update is stored and False for one with nothing but an error.

        A payout is entered by whoever pays it, as a field of that name::

            paid = store.request("incentives", round=7).value.frame()["tokens"]
            store.ingest(7, {}, metadata={client: {"payout": tokens} for client, tokens in paid.items()})

        Parameters
        ----------
        round : int, optional
            One round; default all. What is still being written is waited for.
        """
        from flstore.metadata_frame import frame

        self._intake.settle()
        documented = set(self._catalogue.rounds_with_metadata())
        rounds = sorted({*documented, *self._catalogue.rounds()})
        if round is not None:
            if round not in rounds:
                self._catalogue.clients(round)  # raises for a round that does not exist, naming those that do
            rounds = [round]
        self._writer.flush()

        def table(r: int) -> Any:
            return self._objects.get_metadata_table(self.job, r) if r in documented else to_table({})

        tables = concurrently(table, rounds, _READERS)
        return frame([(r, t, self._catalogue.update_sizes(r)) for r, t in zip(rounds, tables, strict=True)])

    # --- requests ---------------------------------------------------------------------------------------------------

    def task(
        self, model: str | None = None, data: str | None = None, metric: str | None = None, precision: str | None = None
    ) -> Task | None:
        """Say how weights become a model that can be judged, for all requests to come; without arguments, what is set.

        A workload that is asked for by its name and has parameters of these names takes them from here, unless they
        are given with the request. What is not given stays as it was. Each store (and each reader) has its own.

        Parameters
        ----------
        model : str, optional
            Import path, "package.module:factory", of a function that returns a ``torch.nn.Module``.
        data : str, optional
            Import path of a function that returns (x, y), or the path or URL of an .npz or .safetensors file with
            these arrays.
        metric : str, optional
            "accuracy" (default), "loss", or the import path of a function that takes (outputs, y) and returns a number,
            higher is better.
        precision : {"float32", "bfloat16"}, optional
            In which models are evaluated; "bfloat16" is approximate, see :class:`flstore.task.Task`.

        Returns
        -------
        Task or None
            What is set now. Cache functions import and read it when they need it: they must have it on their Python
            path.

        Raises
        ------
        InvalidParameterError
            Model or data is missing, or one of them is no import path and no file.

        Examples
        --------
        >>> task = store.task(model="flstore.testing.sample_task:model", data="flstore.testing.sample_task:data")
        >>> len(store.request("incentives", round=3).value.frame())
        5
        """
        given = {"model": model, "data": data, "metric": metric, "precision": precision}
        if new := {name: value for name, value in given.items() if value is not None}:
            before = dataclasses.asdict(self._task) if self._task is not None else {"model": None, "data": None}
            self._task = Task(**{**before, **new})
        return self._task

    def submit(
        self,
        workload: str | Workload,
        *,
        round: int | None = None,
        client: str | None = None,
        rounds: Sequence[int] | None = None,
        deadline_s: float | None = None,
        **params: Any,
    ) -> Future[Result]:
        """Ask for a workload; the answer comes as a future.

        Waits while too many requests are open (``max_in_flight`` of :class:`FLStore`); ``queue_s`` of the record
        includes this. A callback of such a future never waits.

        Parameters
        ----------
        workload : str or Workload
            A name of ``flstore.workloads.names()``, or an instance.
        round, client, rounds : optional
            What it is about; each workload says what it needs.
        deadline_s : float, optional
            Seconds after which the request fails with ``RequestTimeoutError``, counted from this call.
        **params
            Parameters of the workload.

        Raises
        ------
        UnknownNameError
            There is no such workload; the nearest name is in the message.
        InvalidParameterError
            A parameter is unknown or out of range.
        UpdateNotFoundError
            What it is about does not exist; the message says what does.
        """
        started = time.perf_counter()
        chosen = self._workload(workload, params)
        entered = self._enter(deadline_s)
        self._intake.settle()
        return self._ask(chosen, entered, started, deadline_s, round=round, client=client, rounds=rounds)

    async def ask(
        self, workload: str | Workload, *, deadline_s: float | None = None, **scope_and_params: Any
    ) -> Result:
        """Ask for a workload from a coroutine, on any event loop, and wait for the answer without blocking the loop.

        Takes what :meth:`submit` takes, and raises what :meth:`request` raises. Cancelling it gives up the wait; a
        request that is on its way is answered all the same, and its record tells of it.

        Parameters
        ----------
        workload : str or Workload
            As for :meth:`submit`.
        deadline_s : float, optional
            As for :meth:`submit`.
        **scope_and_params
            ``round``, ``client``, ``rounds``, and parameters of the workload.

        Examples
        --------
        In a notebook, ``answer = await store.ask("clustering", round=3, k=2)``; elsewhere:

        >>> import asyncio
        >>> answer = asyncio.run(store.ask("clustering", round=3, k=2))
        >>> answer.record.status
        'done'
        """
        started = time.perf_counter()
        scope = {name: scope_and_params.pop(name, None) for name in ("round", "client", "rounds")}
        chosen = self._workload(workload, scope_and_params)
        entered = await self._gate.enter_async(deadline_s)
        try:
            await asyncio.gather(*map(asyncio.wrap_future, self._intake.pending()), return_exceptions=True)
        except BaseException:
            if entered:
                self._gate.leave()
            raise
        future = self._ask(chosen, entered, started, deadline_s, **scope)
        return await asyncio.wrap_future(future)

    def _workload(self, workload: str | Workload, params: Mapping[str, Any]) -> Workload:
        self._check_open()
        if isinstance(workload, str) and self._task is not None:
            fields = {f.name for f in dataclasses.fields(workloads.get(workload)) if f.init}  # type: ignore[arg-type]
            params = self._task.fill(fields, params)
        chosen = workloads.make(workload, **params) if isinstance(workload, str) else workload
        if not isinstance(chosen, Workload):
            raise InvalidParameterError(f"{workload!r} is neither the name of a workload nor a Workload instance")
        return chosen

    def _enter(self, timeout_s: float | None) -> bool:
        """Wait until one more request may be open; False when that took too long."""
        return self._gate.enter(timeout_s)

    def _ask(
        self,
        workload: Workload,
        entered: bool,
        started: float,
        deadline_s: float | None,
        round: int | None,
        client: str | None,
        rounds: Sequence[int] | None,
    ) -> Future[Result]:
        """Start to answer a request that was let in, or say that it was not."""
        waited_s = time.perf_counter() - started
        try:
            self._check_open()
            scope = Scope(
                self.job,
                round,
                None if client is None else str(client),
                None if rounds is None else tuple(int(r) for r in rounds),
            )
            keys = self._needs(workload, scope)
        except BaseException:
            if entered:
                self._gate.leave()
            raise
        record = self._tracker.open(self.job, workload.name, str(workload.policy_class), round, scope.client)
        record.queue_s = waited_s
        question = Question(workload, scope, keys, deadline_s, record, started, waited_s, self._tracker.close)
        if not entered:
            question.fail(
                RequestTimeoutError(
                    f"{workload.name} was not started within its {deadline_s} seconds: {self._gate.limit} requests "
                    f"were open all the time (max_in_flight)"
                )
            )
            return question.future
        question.future.add_done_callback(lambda _: self._gate.leave())
        self._answer(question)
        return question.future

    def request(self, workload: str | Workload, **scope_and_params: Any) -> Result:
        """Ask for a workload and wait for the answer.

        Takes and raises what :meth:`submit` does, and raises what the workload raised.

        Parameters
        ----------
        workload : str or Workload
            As for :meth:`submit`.
        **scope_and_params
            ``round``, ``client``, ``rounds``, ``deadline_s``, and parameters of the workload.

        Examples
        --------
        >>> store.request("clustering", round=3, k=2).value.frame().columns.tolist()
        ['cluster', 'distance', 'x', 'y']
        """
        return self.submit(workload, **scope_and_params).result()

    def _needs(self, workload: Workload, scope: Scope) -> list[Key]:
        return workload.needs(scope, self._catalogue)

    @abstractmethod
    def _answer(self, question: Question) -> None:
        """Start to answer; must see to it that ``question.finish`` or ``question.fail`` is called once."""

    @property
    def requests(self) -> pd.DataFrame:
        """One row a request: what it was, hits and misses, and measured seconds."""
        return self._tracker.frame()

    @property
    def plot(self) -> Plots:
        """Pictures of the requests: ``plot.latency()``, ``.hit_ratio()``, ``.bytes_moved()`` and ``.cost()``."""
        from flstore.plotting import Plots

        return Plots(self)

    # --- life -------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Wait until all that was ingested is durable. Writes that failed are tried again first.

        Raises
        ------
        StoreError
            Something could not be written, after all else was; it stays in memory, and the next flush tries again.
        """
        self._finish(*(feeder.flush for feeder in self._feeders), self._take_all, self._write_all)

    def _take_all(self) -> None:
        self._intake.settle()
        self._intake.raise_failed()

    def _write_all(self) -> None:
        self._writer.retry_failed()
        self._writer.flush()

    def close(self) -> None:
        """Flush, then let go of everything. Closing twice is closing once."""
        if self._closed:
            return
        try:
            self._finish(*(feeder.close for feeder in self._feeders), self.flush, self._end_monitor)
        finally:
            self._closed = True
            self._intake.close()
            self._shut(self._writer.close)

    def _end_monitor(self) -> None:  # noqa: B027 (few can be watched)
        """Let go of what draws this system in a notebook, while it still has something to show."""

    @staticmethod
    def _finish(*steps: Callable[[], None]) -> None:
        """Take every step, then raise the first error with a note for each other one."""
        errors: list[Exception] = []
        for step in steps:
            try:
                step()
            except Exception as error:  # the remaining steps save other data
                errors.append(error)
        if errors:
            for other in errors[1:]:
                if other is not errors[0]:
                    errors[0].add_note(f"also: {type(other).__name__}: {other}")
            raise errors[0]

    def _shut(self, last: Callable[[], None]) -> None:
        """Free what the system holds; `last` closes the writer."""
        last()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError(f"this store ({self._objects.root}) was closed; open it again to go on")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
