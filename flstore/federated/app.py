"""A small real Flower app: four networks, digits or other images, FedAvg or any strategy, in this process."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Result
from numpy.typing import NDArray

from flstore.display.progress import counter
from flstore.errors import InvalidParameterError
from flstore.federated.client import client_app, data_of, load_record
from flstore.federated.data import Images
from flstore.federated.faults import Fault, read_faults
from flstore.federated.grid import LocalGrid
from flstore.federated.models import build
from flstore.federated.npy import decode_npy
from flstore.federated.scopes import one_thread, quiet, replies_let_go, seeded_sampling
from flstore.federated.settings import Settings, settings_for
from flstore.federated.training import score

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from flwr.serverapp.strategy import Strategy
    from tqdm import tqdm


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class RunHistory:
    """What a training run came to. Position 0 of the sequences is the model that training started from.

    Attributes
    ----------
    model : str
        Name of the network.
    accuracy, loss : tuple of float, rounds + 1 values
        Of the global model on the held-out images: the share that it gets right, the mean cross entropy.
    train_loss : tuple of float, rounds + 1 values
        Mean over the round's clients, weighted by their samples; NaN at 0 and for a round without a valid reply.
    seconds : tuple of float, rounds + 1 values
        Wall seconds of the round, evaluation and observation included; at 0 the first evaluation alone.
    arrays : dict of str to ndarray
        The final global model; read-only.
    """

    model: str
    accuracy: tuple[float, ...]
    loss: tuple[float, ...]
    train_loss: tuple[float, ...]
    seconds: tuple[float, ...]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    def frame(self) -> pd.DataFrame:
        """One row a round, with the columns accuracy, loss, train_loss and seconds."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in ("accuracy", "loss", "train_loss", "seconds")}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(self.accuracy), name="round"))

    def __repr__(self) -> str:
        return (
            f"RunHistory({self.model}: accuracy {self.accuracy[0]:.2f} -> {self.accuracy[-1]:.2f} in "
            f"{len(self.accuracy) - 1} rounds, {sum(self.seconds):.1f} s)"
        )


def run(
    model: str = "resnet18",
    rounds: int | None = None,
    clients: int = 50,
    per_round: int = 10,
    lr: float | None = None,
    alpha: float = 1.0,
    seed: int = 0,
    max_batches: int | None = None,
    store: Any = None,
    strategy: Strategy | None = None,
    progress: bool = True,
    grid: Grid | None = None,
    *,
    settings: Settings | None = None,
    data: str = "digits",
    data_root: str | os.PathLike[str] = "",
    download: bool = False,
    split: str = "dirichlet",
    shards: int = 2,
    faults: Mapping[str, str | Fault] | None = None,
) -> RunHistory:
    """Train a network on images, federated over clients in this process, and record it in a store.

    Equal arguments choose the same clients and the same batches; on the same kind of processor the models are
    equal too (torch computes on one thread meanwhile).

    Parameters
    ----------
    model : str
        One of ``flstore.federated.MODELS``.
    rounds : int, optional
        Rounds of training; default as many as the settings have.
    clients : int
        Number of clients that share the training images. Their ids are "0", "1", ...
    per_round : int
        Clients that train in a round. Has no effect with a `strategy` of your own.
    lr : float, optional
        Learning rate of the clients; default that of the settings.
    alpha : float
        Dirichlet concentration of the split over clients.
    seed : int
        Seed of the split, the initial weights, the choice of clients and their batches.
    max_batches : int, optional
        At most so many batches a client and round, for quick looks.
    store : FLStore, optional
        Observes the run. Flush it to wait until everything is stored.
    strategy : flwr.serverapp.strategy.Strategy, optional
        Instead of ``FedAvg``.
    progress : bool
        Show a progress bar in a terminal or notebook.
    grid : flwr.serverapp.Grid, optional
        The nodes of a Flower run that somebody else started, `clients` in number, instead of clients in this process.
        Their ids are drawn anew in each run, so the seed does not decide who is chosen.
    settings : Settings, optional
        How clients train; default ``SETTINGS[model]``, with which each network learns the digits.
        ``dataclasses.replace`` changes one thing of it; `rounds` and `lr` win over it.
    data : {"digits", "cifar10", "folder"}
        What is trained on; see ``flstore.federated.images``. The digits need no files.
    data_root : path
        Folder of the files of CIFAR-10, or of the images.
    download : bool
        Fetch CIFAR-10 when it is not there.
    split : {"dirichlet", "shard", "iid"}
        How the training images are shared out; see ``flstore.federated.partition``.
    shards : int
        Shards of one class that a client gets in the shard split.
    faults : mapping of str to str or Fault, optional
        Clients that do their work wrong, by id: ``{"3": "label-flip", "7": "sign-flip", "9": "straggler:0.5"}``; see
        ``flstore.federated.Fault``. What is recorded does not tell which. Clients behind a `grid` have theirs from
        ``client_app(faults)``.

    Returns
    -------
    RunHistory

    Raises
    ------
    InvalidParameterError
        A number out of range, a fault of a client that there is not, or faults for the clients behind a `grid`.
    UnknownNameError
        No model, data set, split, optimizer or fault has this name.
    StoreError
        The files of `data` are not there.

    Examples
    --------
    >>> run("mobilenet_v3_small", rounds=1, per_round=2, max_batches=1, progress=False).model
    'mobilenet_v3_small'
    """
    _check(clients, per_round, max_batches)
    how = settings_for(model, settings, rounds=rounds, lr=lr)
    wrong = read_faults(faults, clients)
    if wrong and grid is not None:
        raise InvalidParameterError(
            f"faults={faults!r} cannot reach clients behind a grid: give them to client_app(faults) where they run"
        )
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    config: dict[str, Any] = {
        "model": model,
        **how.config(),
        "data": data,
        "split": split,
        "alpha": float(alpha),
        "seed": seed,
    }
    if data_root:
        config["data-root"] = os.fspath(data_root)
    if split == "shard":
        config["shards"] = shards
    if max_batches is not None:
        config["max-batches"] = max_batches
    own = data_of(config, clients, download)
    network = build(model, num_classes=len(own.classes), seed=seed)
    strategy = _fedavg(clients, per_round) if strategy is None else strategy
    if store is not None:
        strategy = store.observe(strategy)
    with ExitStack() as stack:
        for scope in (quiet(), one_thread(), seeded_sampling(strategy, seed), replies_let_go(strategy)):
            stack.enter_context(scope)
        nodes = stack.enter_context(LocalGrid(client_app(wrong), clients)) if grid is None else grid
        bar = stack.enter_context(counter(total=how.rounds, what=model, unit="round", show=progress))
        watch = _Watch(network, own, bar)
        result = _serve(nodes, strategy, network, how.rounds, ConfigRecord(config), watch)
    return _history(model, result, watch)


def _check(clients: int, per_round: int, max_batches: int | None) -> None:
    if not 1 <= per_round <= clients or (max_batches is not None and max_batches < 1):
        raise InvalidParameterError(
            f"clients={clients}, per_round={per_round}, max_batches={max_batches}: all must be at least 1, and "
            "per_round at most clients"
        )


def _fedavg(clients: int, per_round: int) -> FedAvg:
    with quiet(logging.ERROR):  # it warns that clients evaluate nothing, which is meant
        return FedAvg(
            fraction_train=per_round / clients,  # rounded down, so the minimum makes it exact
            fraction_evaluate=0.0,
            min_train_nodes=per_round,
            min_available_nodes=clients,
        )


def _serve(
    grid: Grid, strategy: Strategy, network: torch.nn.Module, rounds: int, config: ConfigRecord, watch: _Watch
) -> Result:
    """Run the server app on the grid, as Flower does."""
    app = ServerApp()
    results: list[Result] = []

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        initial = ArrayRecord(network.state_dict())
        results.append(
            strategy.start(
                grid,
                initial,
                rounds,
                train_config=config,
                evaluate_config=ConfigRecord(dict(config)),  # Flower writes the round into each
                evaluate_fn=watch,
            )
        )

    app(grid, Context(run_id=grid.run.run_id, node_id=0, node_config={}, state=RecordDict(), run_config={}))
    return results[0]


class _Watch:
    """Evaluates the global model after each round, and keeps the time."""

    def __init__(self, network: torch.nn.Module, data: Images, bar: tqdm[Any]) -> None:
        self.network, self.data, self.bar = network, data, bar
        self.seconds: list[float] = []
        self.record = ArrayRecord()
        self.last = time.perf_counter()

    def __call__(self, round: int, arrays: ArrayRecord) -> MetricRecord:
        load_record(self.network, arrays)
        self.record = arrays
        accuracy, loss = score(self.network, self.data.test_images, self.data.test_labels)
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now
        self.bar.set_postfix(accuracy=f"{accuracy:.2f}", loss=f"{loss:.2f}", refresh=False)
        self.bar.update(1 if round else 0)
        return MetricRecord({"accuracy": accuracy, "loss": loss})


def _history(model: str, result: Result, watch: _Watch) -> RunHistory:
    evaluated = result.evaluate_metrics_serverapp
    trained = result.train_metrics_clientapp
    return RunHistory(
        model=model,
        accuracy=tuple(float(evaluated[r]["accuracy"]) for r in sorted(evaluated)),  # type: ignore[arg-type]
        loss=tuple(float(evaluated[r]["loss"]) for r in sorted(evaluated)),  # type: ignore[arg-type]
        train_loss=tuple(_train_loss(trained.get(r)) for r in sorted(evaluated)),
        seconds=tuple(watch.seconds),
        arrays={name: decode_npy(array.data, array.dtype) for name, array in watch.record.items()},
    )


def _train_loss(metrics: MetricRecord | None) -> float:
    value = None if metrics is None else metrics.get("train_loss")
    return float(value) if isinstance(value, (int, float)) else float("nan")
