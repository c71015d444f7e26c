"""Observe an NVIDIA FLARE job: what its clients send goes to a store, from the server's process of the job."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError, InvalidUpdateError, OptionalDependencyError
from flstore.federated.feeder import Feeder, Parcel
from flstore.tensors import as_arrays

try:
    from nvflare.apis.dxo import DataKind, from_shareable
    from nvflare.apis.event_type import EventType
    from nvflare.apis.fl_component import FLComponent
    from nvflare.apis.fl_constant import FLContextKey, FLMetaKey, ReturnCode
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable
    from nvflare.app_common.app_constant import AppConstants
    from nvflare.app_common.app_event_type import AppEventType
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "nvflare":
        raise
    raise OptionalDependencyError.of("nvflare", "nvflare", "flstore.federated.nvflare") from error

if TYPE_CHECKING:
    from flstore.store import FLStore

_SCALARS = (bool, int, float, str, np.generic)
_OF_THE_FRAMEWORK = frozenset(value for name, value in vars(FLMetaKey).items() if name.isupper()) | {"client_name"}


class FLStoreObserver(FLComponent):  # type: ignore[misc]
    """Record every round of an NVIDIA FLARE job in a store: one line of a ``FedJob``.

    Works with ``ScatterAndGather``, ``FedAvg`` and whatever else fires their events. NVIDIA FLARE builds components
    from JSON in the process of the job, so this opens a store of its own there when the run starts, as the one writer
    of `job` below `root`, and closes it when the run ends. Ask it meanwhile with ``FLStore.attach(root, job)``,
    afterwards with ``FLStore.local(root=root, job=job)``.

    Parameters
    ----------
    root : str
        The persistent store: a directory, or a URL such as ``s3://bucket/prefix``. As the server sees it.
    job : str, default "default"
        The FL job in the store. Each FLARE job needs a name or a root of its own. None: FLARE's id of the job.
    address : str, optional
        Of the scheduler of a Dask cluster, as :meth:`FLStore.connect` takes it. Default: cache functions on the
        server's machine, as long as the run lasts (:meth:`FLStore.local`).
    tasks : list of str, optional
        Tasks whose results are client updates. Default: ``["train"]``.
    buffer_bytes : int
        Bytes of updates that may wait to be ingested before FLARE waits for the store.
    options : dict, optional
        What else ``FLStore.connect`` or ``FLStore.local`` takes, as JSON values: ``{"functions": 4}``. It is written
        into the job: credentials belong into the server's environment.

    Raises
    ------
    InvalidParameterError
        An argument that JSON cannot hold, or that is none of these.
    OptionalDependencyError
        NVIDIA FLARE is not installed (when this module is imported).

    Notes
    -----
    FLARE counts rounds from 0 and has no number for the model that training starts from. Its round r is round r + 1
    of the store, as with Flower; round 0 has the initial model.

    Clients are known by their identity name. Differences (``ParamsType.DIFF``) are stored as models: the global model
    that they were taken from plus the difference, in its dtypes; tensors that a difference leaves out are as they were.
    Metadata has the client's metrics, the scalars of its meta, ``num_steps``, ``reply_s`` (seconds from the task to its
    result), ``error`` (FLARE's return code, or "no answer" for who had the task and sent nothing until the round
    ended) and ``accepted`` (False when the aggregator refused). What comes for a round that has ended is kept in that
    round and marked ``late``.

    Handlers only copy dictionaries; a thread encodes and ingests. Arrays are shared until then: an aggregator of your
    own must not write into those of its clients (FLARE's do not). A store that fails does not stop training: the job's
    log says what was not stored. ``job.set_app_packages(["flstore"])`` keeps this package, which the server has, out of
    the job's export.

    Examples
    --------
    >>> job.to_server(FLStoreObserver("/data/flstore", job="hospitals"), id="flstore")  # doctest: +SKIP
    """

    def __init__(
        self,
        root: str,
        job: str | None = "default",
        address: str | None = None,
        tasks: list[str] | None = None,
        buffer_bytes: int = 1 << 30,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(root, str) or not root:
            raise InvalidParameterError(f"root is a directory or URL, got {root!r}")
        try:
            json.dumps([job, address, tasks, options])
        except (TypeError, ValueError) as error:
            raise InvalidParameterError(f"the arguments go through JSON to the process of the job: {error}") from error
        if tasks is not None and (not tasks or not isinstance(tasks, list | tuple)):
            raise InvalidParameterError(f"tasks is a list of task names such as ['train'], got {tasks!r}")
        # The export of a job reads the arguments from attributes of the same names.
        self.root, self.job, self.address = root, job, address
        self.tasks, self.buffer_bytes, self.options = tasks, buffer_bytes, options
        self._store: FLStore | None = None
        self._feeder: Feeder | None = None
        self._recorded: int | None = None
        self._newest = 0
        self._base: tuple[int, Mapping[str, Any]] = (-1, {})
        self._asked: dict[int, dict[str, float]] = {}
        self._hooks: dict[str, Callable[[FLContext], None]] = {
            EventType.START_RUN: self._open,
            AppEventType.BEFORE_TRAIN_TASK: self._task_sent,
            EventType.BEFORE_PROCESS_SUBMISSION: self._result_came,
            AppEventType.AFTER_CONTRIBUTION_ACCEPT: self._result_judged,
            AppEventType.AFTER_SHAREABLE_TO_LEARNABLE: self._round_ended,
            EventType.END_RUN: self._close,
        }

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Called by FLARE for every event; never raises."""
        hook = self._hooks.get(event_type)
        if hook is None or (self._feeder is None and event_type != EventType.START_RUN):
            return
        try:
            hook(fl_ctx)
        except Exception as error:  # the training matters more
            self._say(fl_ctx, "something was not recorded", error)
            if self._feeder is not None:
                self._feeder.failed(_round(fl_ctx.get_prop(AppConstants.CURRENT_ROUND)) or 0, error)

    # --- the store --------------------------------------------------------------------------------------------------

    def _open(self, ctx: FLContext) -> None:
        from flstore.store import FLStore

        job = str(ctx.get_job_id()) if self.job is None else self.job
        options = {"job": job, **(self.options or {})}
        try:
            if self.address is None:
                self._store = FLStore.local(root=self.root, **options)
            else:
                self._store = FLStore.connect(self.address, self.root, **options)
            self._feeder = Feeder(self._store, self.buffer_bytes)
            self._store.add_feeder(self._feeder)
        except Exception as error:
            self._say(ctx, f"nothing of this run is recorded, because the store {self.root} did not open", error)
            return
        if known := self._store.rounds():
            said = (
                f"job {job!r} below {self.root} has rounds {known[0]} to {known[-1]} already, which are not overwritten"
            )
            self.log_warning(ctx, f"FLStore: {said}; a new run needs a job or root of its own", fire_event=False)

    def _close(self, ctx: FLContext) -> None:
        store, self._store, self._feeder = self._store, None, None
        try:
            if store is not None:
                store.close()
        except Exception as error:
            self._say(ctx, "not all of this run was stored", error)

    def _say(self, ctx: FLContext, what: str, error: Exception) -> None:
        told = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])]
        self.log_error(ctx, f"FLStore: {what}: {'; '.join(told)}", fire_event=False)

    # --- what a round brings ----------------------------------------------------------------------------------------

    def _task_sent(self, ctx: FLContext) -> None:
        """A client fetches a task: the model in it is the aggregate of the round before."""
        task = ctx.get_prop(AppConstants.TRAIN_SHAREABLE)
        round = _round(task.get_header(AppConstants.CURRENT_ROUND, ctx.get_prop(AppConstants.CURRENT_ROUND)))
        if round is None or ctx.get_prop(FLContextKey.TASK_NAME, "train") not in self._tasks():
            return
        self._newest = max(self._newest, round)
        dxo = from_shareable(task)
        if dxo.data_kind == DataKind.WEIGHTS and (self._recorded is None or self._recorded < round - 1):
            self._keep_aggregate(round - 1, dxo.data)
        self._asked.setdefault(round, {})[_peer(ctx)] = time.perf_counter()

    def _result_came(self, ctx: FLContext) -> None:
        result = ctx.get_prop(FLContextKey.TASK_RESULT)
        round = self._round_of(ctx)
        if round is None or ctx.get_prop(FLContextKey.TASK_NAME) not in self._tasks():
            return
        client = _peer(ctx)
        row: dict[str, Any] = {}
        asked = self._asked.get(round, {})
        if began := asked.pop(client, None):
            row["reply_s"] = time.perf_counter() - began
        elif self._recorded is not None and round <= self._recorded:
            row["error"] = None  # when the round ended it had none
        code = result.get_return_code(ReturnCode.OK)
        if code != ReturnCode.OK:
            self._submit(Parcel(round, metadata={client: {**row, "error": str(code)}}))
            return
        dxo = from_shareable(result)
        row |= _values(dxo)
        if dxo.data_kind in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
            tensors = dict(dxo.data)
            is_whole = dxo.data_kind == DataKind.WEIGHTS
            update = partial(_arrays, tensors) if is_whole else partial(self._model, round, tensors)
            self._submit(Parcel(round, _size(tensors), {client: update}, metadata={client: row}))
            return
        if dxo.data_kind != DataKind.METRICS:
            row["error"] = f"a result of kind {getattr(dxo.data_kind, 'value', dxo.data_kind)}, which is no model"
        self._submit(Parcel(round, metadata={client: row}))

    def _result_judged(self, ctx: FLContext) -> None:
        round = self._round_of(ctx)
        if round is not None and ctx.get_prop(AppConstants.AGGREGATION_ACCEPTED) is False:
            self._submit(Parcel(round, metadata={_peer(ctx): {"accepted": False}}))

    def _round_ended(self, ctx: FLContext) -> None:
        round = _round(ctx.get_prop(AppConstants.CURRENT_ROUND))
        if round is None:
            return
        silent = self._asked.pop(round, {})
        if silent:
            self._submit(Parcel(round, metadata={client: {"error": "no answer"} for client in silent}))
        if learned := (ctx.get_prop(AppConstants.GLOBAL_MODEL) or {}).get("weights"):
            self._keep_aggregate(round, learned)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _tasks(self) -> tuple[str, ...]:
        return tuple(self.tasks or ("train",))

    def _round_of(self, ctx: FLContext) -> int | None:
        """The store's round of a result: that of the task, which may have ended."""
        result = ctx.get_prop(FLContextKey.TASK_RESULT)
        if not isinstance(result, Shareable):
            return None
        current = ctx.get_prop(AppConstants.CURRENT_ROUND, result.get_header(AppConstants.CURRENT_ROUND))
        round = _round(result.get_cookie(AppConstants.CONTRIBUTION_ROUND, current))
        return None if round is None else min(round, self._newest)  # a client may say anything

    def _submit(self, parcel: Parcel) -> None:
        if self._feeder is not None:
            self._feeder.submit(parcel)

    def _keep_aggregate(self, round: int, weights: Mapping[str, Any]) -> None:
        tensors = dict(weights)  # FLARE puts other arrays into the same dictionary
        self._recorded = round
        self._submit(Parcel(round, _size(tensors), aggregate=partial(_arrays, tensors)))

    def _model(self, round: int, difference: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The model that a client has, from what it changed. On the feeder's thread, after the model before it."""
        if self._base[0] != round - 1 and self._store is not None:
            self._base = (round - 1, self._store.aggregate(round - 1))
        base, changed = self._base[1], _arrays(difference)
        if unknown := sorted(changed.keys() - base.keys()):
            raise InvalidUpdateError(f"a difference has {unknown[0]!r}, which the model of round {round - 1} has not")
        return {
            name: (array + changed[name]).astype(array.dtype) if name in changed else array
            for name, array in base.items()
        }


def _round(number: Any) -> int | None:
    """FLARE's number of a round as the store's."""
    is_round = isinstance(number, int) and not isinstance(number, bool) and number >= 0
    return number + 1 if is_round else None


def _peer(ctx: FLContext) -> str:
    peer = ctx.get_peer_context()
    name = peer.get_identity_name() if peer is not None else None
    if not name:
        raise InvalidUpdateError("a result came without the identity name of a client")
    return str(name)


def _values(dxo: Any) -> dict[str, Any]:
    """What a client says of its work: metrics, and the scalars of its meta."""
    meta = dict(dxo.meta or {})
    metrics = dxo.data if dxo.data_kind == DataKind.METRICS else meta.get(FLMetaKey.INITIAL_METRICS) or {}
    row = {str(k): v for k, v in {**meta, **metrics}.items() if isinstance(v, _SCALARS) and k not in _OF_THE_FRAMEWORK}
    if isinstance(steps := meta.get(FLMetaKey.NUM_STEPS_CURRENT_ROUND), _SCALARS):
        row["num_steps"] = steps
    return row


def _arrays(tensors: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Tensors in memory; FLARE may have left them on disk."""
    loaded = {name: v.materialize() if hasattr(v, "materialize") else v for name, v in tensors.items()}
    return as_arrays(loaded)


def _size(tensors: Mapping[str, Any]) -> int:
    return sum(int(getattr(tensor, "nbytes", 0)) for tensor in tensors.values())
