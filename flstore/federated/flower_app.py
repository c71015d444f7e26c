"""The small app as a Flower app: one server and one client, for the in-process grid, for Ray and for ``flwr run``.

``server`` and ``client`` are what a ``pyproject.toml`` names (see ``examples/four-models``)::

    [tool.flwr.app.components]
    serverapp = "flstore.federated.flower_app:server"
    clientapp = "flstore.federated.flower_app:client"

All three ways run :func:`flstore.federated.run` on the server and :func:`flstore.federated.client_app` on the clients;
only the grid between them differs.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from logging import INFO
from pathlib import Path
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from flstore.errors import ClusterError, InvalidParameterError, OptionalDependencyError
from flstore.federated.app import RunHistory, run
from flstore.federated.client import client_app
from flstore.federated.grid import LocalGrid
from flstore.federated.scopes import one_thread, quiet
from flstore.results import Result
from flstore.store import FLStore
from flstore.system import System

QUESTION = "malicious_filtering"
"""What the server asks of the last round when training is over."""


def server_app(
    store: System | None = None, done: Callable[[RunHistory, Result], Any] | None = None, **training: Any
) -> ServerApp:
    """Build the server app: it trains, observed by a store, and asks the store a question.

    Parameters
    ----------
    store : FLStore or a baseline, optional
        An open store, where the server runs in this process. Default: one that lives as long as the run does, in the
        process of the server app, at the ``flstore-root`` of the run's configuration.
    done : callable, optional
        Told the history of the training and the answer.
    **training
        What :func:`flstore.federated.run` takes. The run's configuration, with hyphens instead of underscores
        (``per-round``), has precedence; a ``max-batches`` of 0 there means all batches.

    Raises
    ------
    InvalidParameterError
        When the app runs: there is neither a store nor a ``flstore-root``.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        settings = {**training, **_settings(context.run_config)}
        with ExitStack() as stack:
            used = store if store is not None else stack.enter_context(_open(context.run_config))
            history = run(**settings, store=used, grid=grid, progress=False)
            used.flush()
            answer = used.request(QUESTION, round=used.rounds()[-1])
        log(INFO, "%r\n%r", history, answer)
        if done is not None:
            done(history, answer)

    return app


def simulate(
    clients: int = 10, store: System | None = None, cpus: int | None = None, **training: Any
) -> tuple[RunHistory, Result]:
    """Run the app in Flower's simulation, whose clients are actors of Ray on this machine.

    Parameters
    ----------
    clients : int
        Number of clients, all of them simulated.
    store : FLStore or a baseline
        An open store; observes the run and is asked afterwards.
    cpus : int, optional
        Clients that run at the same time, each on one processor. Default: as many as there are processors.
    **training
        What :func:`flstore.federated.run` takes.

    Returns
    -------
    RunHistory, Result
        The training, and the answer to :data:`QUESTION` about its last round.

    Raises
    ------
    OptionalDependencyError
        Ray is not installed.
    """
    try:
        import ray  # noqa: F401
    except ModuleNotFoundError as error:
        raise OptionalDependencyError(
            "Flower's simulation needs Ray: pip install 'flwr[simulation]'; run() needs none"
        ) from error
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    from flwr.simulation import run_simulation

    found: list[tuple[RunHistory, Result]] = []
    observed = server_app(store, lambda *outcome: found.append(outcome), clients=clients, **training)
    over = threading.Event()
    init: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    if cpus is not None:
        init["num_cpus"] = cpus
    resources = {"num_cpus": 1, "num_gpus": 0.0}
    config: Any = {"client_resources": resources, "init_args": init}
    try:
        run_simulation(_until(over, observed), client, clients, backend_config=config)
    finally:
        over.set()
    return found[0]


def _until(over: threading.Event, app: ServerApp) -> ServerApp:
    """The same app, whose grid raises once `over` is set.

    When Ray fails, Flower leaves the thread of the server app waiting for nodes for ever, and the interpreter with it.
    """
    guarded = ServerApp()

    @guarded.main()
    def main(grid: Grid, context: Context) -> None:
        for name in ("get_node_ids", "pull_messages"):
            setattr(grid, name, _unless(over, getattr(grid, name)))
        app(grid, context)

    return guarded


def _unless(over: threading.Event, method: Callable[..., Any]) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:
        if over.is_set():
            raise ClusterError("the simulation ended before the run did: no client will answer any more")
        return method(*args, **kwargs)

    return called


def run_app(folder: str | os.PathLike[str], clients: int = 10, **run_config: Any) -> None:
    """Run any Flower app in this process, on the in-process grid: what ``flwr run`` does, without servers.

    Parameters
    ----------
    folder : str
        Where its ``pyproject.toml`` is.
    clients : int
        Number of nodes.
    **run_config
        Instead of the values under ``[tool.flwr.app.config]``, with underscores for hyphens.

    Notes
    -----
    Clients are called one after the other in the order of their nodes, so that an app which trains all of them in each
    round comes to the same model when its seeds are the same.

    Raises
    ------
    InvalidParameterError
        The folder has no Flower app, or the app has no such configuration value.

    Examples
    --------
    >>> run_app("examples/quickstart-pytorch", clients=4, num_server_rounds=1)  # doctest: +SKIP
    """
    components, config = _described(Path(folder))
    given = {name.replace("_", "-"): value for name, value in run_config.items()}
    if unknown := sorted(given.keys() - config.keys()):
        raise InvalidParameterError(
            f"the app in {folder} has no configuration value {unknown[0]!r}; it has {', '.join(config) or 'none'}"
        )
    config = {**config, **given}
    with _importable(Path(folder)), quiet(), one_thread():
        server_there, client_there = (_component(components[name]) for name in ("serverapp", "clientapp"))
        with _InOrder(client_there, clients, run_config=config) as grid:
            server_there(grid, Context(grid.run.run_id, 0, {}, RecordDict(), config))


class _InOrder(LocalGrid):
    """Flower shuffles the clients of a round, by random numbers that other threads draw from too."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return super().push_messages(sorted(messages, key=lambda message: message.metadata.dst_node_id))


def _described(folder: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Components and configuration of the app in a folder."""
    path = folder / "pyproject.toml"
    try:
        app = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
        return {name: app["components"][name] for name in ("serverapp", "clientapp")}, app.get("config", {})
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise InvalidParameterError(
            f"there is no Flower app in {folder} ({type(error).__name__}: {error}): its pyproject.toml must have "
            "serverapp and clientapp under [tool.flwr.app.components]"
        ) from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let the modules of a folder be imported, and forget them afterwards: another app may have the same names."""
    here = str(folder.resolve())
    before = set(sys.modules)
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(here + os.sep):
                del sys.modules[name]


def _component(reference: str) -> Any:
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


def _settings(run_config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of :func:`run` that a run's configuration has."""
    known = inspect.signature(run).parameters.keys() - {"store", "strategy", "progress", "grid", "settings", "faults"}
    given = {name.replace("-", "_"): value for name, value in run_config.items()}
    settings = {name: value for name, value in given.items() if name in known}
    if settings.get("max_batches") == 0:  # TOML has no word for None
        settings["max_batches"] = None
    return settings


def _open(run_config: Mapping[str, Any]) -> FLStore:
    root = run_config.get("flstore-root")
    if not root:
        raise InvalidParameterError(
            "the run's configuration has no flstore-root: say where the store is to be, "
            "flwr run . --run-config 'flstore-root=\"/data/run-1\"'"
        )
    return FLStore.local(functions=int(run_config.get("flstore-functions", 1)), root=str(root))


server = server_app()
client = client_app()
