"""Record a run once, and use it often: rounds of federated training in a root, resumed where they were interrupted."""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar

from flwr.app import Array, ArrayRecord

from flstore.display.progress import counter
from flstore.errors import InvalidParameterError, RequestError
from flstore.federated.app import run
from flstore.federated.recording import Recording, versions_here, warn_of_versions
from flstore.federated.rounds import Round
from flstore.federated.scopes import replaced
from flstore.federated.settings import Settings, settings_for
from flstore.persistence import ObjectStore, remove
from flstore.persistence.claim import claim
from flstore.persistence.layout import RUN
from flstore.persistence.notes import write_note
from flstore.results import Question
from flstore.system import System
from flstore.types import Ingested, Key

if TYPE_CHECKING:
    from flstore.persistence.term import Claim

_NOT_RECORDED = {"store", "strategy", "progress", "grid"}
_COUNTED = ("configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate")


def record(
    root: str,
    model: str = "resnet18",
    rounds: int | None = None,
    *,
    job: str = "default",
    storage_options: Mapping[str, Any] | None = None,
    progress: bool = True,
    **training: Any,
) -> Recording:
    """Write a run of federated training to a root, or finish one that was interrupted, or find it done.

    What is written is what a store writes that observes the run: every update, aggregate and metric. No cache functions
    are started, because writing needs none. ``run.json`` in the root says with what arguments, by what versions and how
    far. A round counts once all of it is durable; after an interruption, whatever it was, the rest of the last round
    is deleted and training goes on from the aggregate of the round before, with the clients and batches that it would
    have had.

    Parameters
    ----------
    root : str
        A directory, or a URL that fsspec knows (``s3://bucket/prefix``). It holds one recording.
    model, rounds
        As for :func:`flstore.federated.run`.
    job : str
        The FL job that the run becomes.
    storage_options : dict, optional
        For fsspec; not recorded.
    progress : bool
        Show a progress bar in a terminal or notebook.
    **training
        All else that :func:`flstore.federated.run` takes, but for `store` and `strategy`: FedAvg has nothing but the
        model from one round to the next, so the model is all that going on needs.

    Returns
    -------
    Recording
        At once, without training, when a run of equal arguments is complete there.

    Raises
    ------
    InvalidParameterError
        Another run is recorded there (the message names the arguments that differ), or rounds that were not recorded;
        or an argument that cannot be recorded.
    WriterExistsError
        Another process is recording there.
    StoreError
        Something could not be written. Calling again goes on.

    Notes
    -----
    Equal arguments give equal bytes on the same kind of processor and with the same versions; when a recording goes on
    with others, a warning says so.

    Examples
    --------
    >>> import tempfile
    >>> root = tempfile.mkdtemp()
    >>> tiny = {"clients": 4, "per_round": 2, "max_batches": 1, "progress": False}
    >>> recording = record(root, model="mobilenet_v3_small", rounds=1, **tiny)
    >>> recording.rounds, len(recording.clients), recording.complete
    ([1], 2, True)
    """
    arguments = _arguments({"model": model, "rounds": rounds, **training})
    found = Recording.find(ObjectStore(root, storage_options))
    if found is not None:
        _check_equal(found, job, arguments)
        if found.complete:
            return found
    with _Recorder(root, job, storage_options, arguments) as recorder:
        if not recorder.recording.complete:
            recorder.train(progress)
        return recorder.recording


class _Recorder(System):
    """Writes what it observes, and answers nothing: recording needs neither functions nor memory for them."""

    name: ClassVar[str] = "Recorder"

    def __init__(
        self, root: str, job: str, storage_options: Mapping[str, Any] | None, arguments: dict[str, Any]
    ) -> None:
        self._arguments = arguments
        self._metrics: Any = None
        self._held: Claim | None = None
        try:
            super().__init__(root, job=job, storage_options=storage_options)
        except BaseException:
            self._release()
            raise

    def train(self, progress: bool) -> None:
        """Train the rounds that are missing."""
        wanted, done = int(self._arguments["rounds"]), len(self.recording.rounds)
        what = f"record {self.recording.model}"
        with counter(total=wanted, done=done, what=what, unit="round", show=progress) as self._bar:
            run(**{**self._arguments, "settings": Settings(**self._arguments["settings"])}, store=self, progress=False)

    def observe(self, strategy: Any) -> Any:
        """Observe, and let the strategy start where the recording ends."""
        strategy = super().observe(strategy)
        start = strategy.start
        done = len(self.recording.rounds)

        def start_after(grid: Any, initial_arrays: Any, num_rounds: int = 3, *args: Any, **options: Any) -> Any:
            if done:
                last = max(r for r in range(done + 1) if self._catalogue.has_aggregate(r))
                initial_arrays = ArrayRecord({name: Array(array) for name, array in self.aggregate(last).items()})
            options["evaluate_fn"] = self._noting(options["evaluate_fn"], done)
            with replaced(strategy, {name: self._counted(getattr(strategy, name), name, done) for name in _COUNTED}):
                return start(grid, initial_arrays, num_rounds - done, *args, **options)

        strategy.start = start_after
        return strategy

    def _counted(self, method: Callable[..., Any], name: str, done: int) -> Callable[..., Any]:
        """A strategy's method that is told the number of the round: Flower counts from 1, whenever it starts."""

        def counted(server_round: int, *args: Any, **options: Any) -> Any:
            result = method(server_round + done, *args, **options)
            if name == "aggregate_train":
                self._metrics = result[1]
            return result

        return counted

    def _noting(self, evaluate: Callable[..., Any], done: int) -> Callable[..., Any]:
        """An evaluation of the global model that also notes a round as complete, once all of it is durable."""
        last_s = time.perf_counter()
        self._metrics = None

        def noting(server_round: int, arrays: Any) -> Any:
            nonlocal last_s
            number = server_round + done
            metrics = evaluate(number, arrays)
            if server_round or not done:
                self.flush()
                now_s = time.perf_counter()
                self._note(number, metrics, now_s - last_s)
                last_s = now_s
            return metrics

        return noting

    def _note(self, number: int, metrics: Any, seconds: float) -> None:
        clients, aggregate_bytes, _ = self._objects.contents(self.job, number)
        train_loss = None if self._metrics is None else self._metrics.get("train_loss")
        entry = Round(
            float(metrics["accuracy"]), float(metrics["loss"]), None if train_loss is None else float(train_loss),
            seconds, list(clients), sum(clients.values()) + (aggregate_bytes or 0),
        )  # fmt: skip
        history = list(self.recording.history[:number])
        if number == 1:  # only when a round starts is the model known that it starts from
            history[0] = replace(history[0], size_bytes=self._objects.contents(self.job, 0)[1] or 0)
        self._write(replace(self.recording, history=(*history, entry)))
        self._bar.set_postfix(accuracy=f"{entry.accuracy:.2f}", loss=f"{entry.loss:.2f}", refresh=False)
        self._bar.update(1 if number else 0)

    def _write(self, recording: Recording) -> None:
        write_note(self._objects, RUN, recording.note())
        self.recording = recording

    # --- of a system ------------------------------------------------------------------------------------------------

    def _claim(self) -> None:
        """Become the writer, and take away what an interruption left of a round, before the root is listed."""
        super()._claim()
        self._held = claim(self._objects, self.job)
        found = Recording.find(self._objects)  # another process may have gone on meanwhile
        if found is None:
            if there := [r for r, *_ in self._objects.listing(self.job)]:
                raise InvalidParameterError(
                    f"job {self.job!r} below {self._objects.root} has rounds {there[0]} to {there[-1]}, but no {RUN}: "
                    "they were not recorded by record(); use another root or job"
                )
            spec = self._objects.spec
            found = Recording(spec["root"], self.job, self._arguments, versions_here(), (), spec["storage_options"])
            self._write(found)
            return
        _check_equal(found, self.job, self._arguments)
        self.recording = found
        if not found.complete:
            warn_of_versions(found)
            done = len(found.rounds)
            left = [r for r in self._objects.rounds(self.job) if r > done or not done]
            remove(self._objects, self.job, rounds=left, progress=False)

    def _check_may_write(self) -> None:
        super()._check_may_write()
        if self._held is not None:
            self._held.check()

    def _arrived(self, events: list[Ingested], values: Mapping[Key, Any]) -> None:
        for event in events:
            self._state.register(event.keys, event.sizes)

    def _answer(self, question: Question) -> None:
        question.fail(RequestError("a run that is being recorded answers nothing; open recording.store() afterwards"))

    def _shut(self, last: Callable[[], None]) -> None:
        try:
            last()
        finally:
            self._release()

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.release()


def _arguments(training: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a run by name, with the defaults of those that were not given, as JSON has them."""
    if refused := sorted(_NOT_RECORDED & training.keys()):
        raise InvalidParameterError(
            f"record() takes no {refused[0]}: it stores the run by itself and trains with FedAvg, which can go on from "
            "a model alone; use run(store=store, strategy=...) for a run that need not be resumed"
        )
    bound = inspect.signature(run).bind(**training)
    bound.apply_defaults()
    found = {name: value for name, value in bound.arguments.items() if name not in _NOT_RECORDED}
    how = settings_for(found["model"], found["settings"], rounds=found["rounds"], lr=found["lr"])
    written = {name: value for name, value in asdict(how).items() if value != math.inf}
    found |= {name: written.pop(name) for name in ("rounds", "lr")}
    found["settings"] = written
    for name, value in found.items():
        try:
            found[name] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            raise InvalidParameterError(
                f"{name}={value!r} cannot be recorded: arguments are kept as JSON, so that an equal run can be told "
                "from another; give numbers, words, lists or dictionaries of them"
            ) from None
    if isinstance(found["rounds"], bool) or not isinstance(found["rounds"], int) or found["rounds"] < 1:
        raise InvalidParameterError(f"rounds must be an integer of at least 1, got {found['rounds']!r}")
    return found


def _check_equal(found: Recording, job: str, arguments: Mapping[str, Any]) -> None:
    """Raise unless a recording has this job and these arguments."""
    # An argument that is newer than the recording had its default there.
    recorded = {"job": found.job, **_arguments({}), **found.arguments}
    given = {"job": job, **arguments}
    names = [name for name in given if recorded.get(name) != given[name]]
    names += [name for name in found.arguments if name not in given]
    if names:
        shown = "; ".join(f"{name} is {recorded[name]!r} there, {given.get(name)!r} was asked for" for name in names)
        raise InvalidParameterError(
            f"another run is recorded below {found._shown}: {shown}. Record into another root, give the arguments that "
            "it has, or take it as it is with Recording.open(root)"
        )
