"""One app, three ways: the in-process grid, Ray's simulation, and servers started by ``flwr run`` on loopback."""

from __future__ import annotations

import difflib
import inspect
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from flwr.app import Context, RecordDict
from flwr.serverapp import strategy as flower_strategy

from flstore import FLStore
from flstore.baselines import LocalFiles
from flstore.errors import ClusterError, InvalidParameterError, OptionalDependencyError
from flstore.federated import LocalGrid, flower_app, run, run_app, simulate, strategy

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICKSTART, FOUR_MODELS = EXAMPLES / "quickstart-pytorch", EXAMPLES / "four-models"
STOCK, OBSERVED = "from flwr.serverapp.strategy import FedAvg", "from flstore.federated.strategy import FedAvg"
TINY: dict[str, Any] = {"model": "mobilenet_v3_small", "rounds": 2, "per_round": 2, "max_batches": 1, "seed": 2}


def loaded(reference: str) -> Any:
    module, _, attribute = reference.partition(":")
    return getattr(sys.modules[module], attribute)


def test_flwr_run_is_given_the_server_and_client_of_the_module() -> None:
    described = tomllib.loads((FOUR_MODELS / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
    assert loaded(described["components"]["serverapp"]) is flower_app.server
    assert loaded(described["components"]["clientapp"]) is flower_app.client
    arguments = {name.replace("-", "_") for name in described["config"] if not name.startswith("flstore-")}
    assert arguments <= inspect.signature(run).parameters.keys()


def test_the_simulation_is_given_the_same_client_and_server(monkeypatch: Any, tmp_path: Path) -> None:
    """Everything of it but Ray's actors, which start slowly: the slow test has those."""
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    given: list[Any] = []

    def in_process(server: Any, client: Any, nodes: int, backend_config: Any) -> None:
        given.append(client)
        with LocalGrid(client, nodes) as grid:
            server(grid, Context(grid.run.run_id, 0, {}, RecordDict(), {}))

    monkeypatch.setattr("flwr.simulation.run_simulation", in_process)
    with LocalFiles(str(tmp_path)) as store:
        history, answer = simulate(clients=4, store=store, **TINY)
        assert store.rounds() == [1, 2]
    assert given == [flower_app.client]
    assert len(history.accuracy) == 3
    assert len(answer.value.frame()) == 2


def test_a_simulation_that_fails_leaves_no_thread_waiting_for_nodes(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    began, threads = threading.Event(), []
    raised: list[BaseException] = []

    class NoNodes(LocalGrid):
        def get_node_ids(self) -> list[int]:
            began.set()
            return []

    def failing(server: Any, client: Any, nodes: int, backend_config: Any) -> None:
        def serve() -> None:
            with NoNodes(client, nodes) as grid, pytest.raises(ClusterError, match="no client will answer") as error:
                server(grid, Context(grid.run.run_id, 0, {}, RecordDict(), {}))
            raised.append(error.value)

        threads.append(threading.Thread(target=serve, daemon=True))
        threads[0].start()
        assert began.wait(60)
        raise RuntimeError("no Ray here")

    monkeypatch.setattr("flwr.simulation.run_simulation", failing)
    with LocalFiles(str(tmp_path)) as store, pytest.raises(RuntimeError, match="no Ray here"):
        simulate(clients=4, store=store, **TINY)
    threads[0].join(60)
    assert raised


def test_without_ray_the_simulation_says_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionalDependencyError, match=r"flwr\[simulation\].*run\(\) needs none"):
        simulate()


def test_the_server_trains_as_run_does_and_the_store_answers(tmp_path: Path) -> None:
    config = {"rounds": 2, "clients": 4, "per-round": 2, "max-batches": 1, "seed": 2, "model": TINY["model"]}
    with LocalFiles(str(tmp_path / "bare")) as store:
        history = run(**TINY, clients=4, store=store, progress=False)
    heard: list[Any] = []
    server = flower_app.server_app(done=lambda *outcome: heard.append(outcome))
    with LocalGrid(flower_app.client, 4, run_config=config) as grid:
        root = str(tmp_path / "app")
        server(grid, Context(grid.run.run_id, 0, {}, RecordDict(), {**config, "flstore-root": root}))
    ((told, answer),) = heard
    assert told.accuracy == history.accuracy
    assert answer.record.round == 2
    with LocalFiles(root) as store, LocalFiles(str(tmp_path / "bare")) as bare:
        assert store.rounds() == [1, 2]
        assert [store.clients(r) for r in (1, 2)] == [bare.clients(r) for r in (1, 2)]
        assert list(answer.value.frame().index.sort_values()) == store.clients(2)
    with LocalGrid(flower_app.client, 4) as grid, pytest.raises(InvalidParameterError, match="no flstore-root"):
        flower_app.server(grid, Context(grid.run.run_id, 0, {}, RecordDict(), config))


# --- the quickstart -------------------------------------------------------------------------------------------------


@pytest.fixture
def observed_app(tmp_path: Path, monkeypatch: Any) -> Path:
    """The quickstart with the one line changed, and a root of its own."""
    folder = tmp_path / "observed"
    shutil.copytree(QUICKSTART, folder, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "quickstart" / "server_app.py"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(STOCK, OBSERVED), encoding="utf-8")
    changed = [line for line in difflib.ndiff(before.splitlines(), path.read_text().splitlines()) if line[0] in "+-"]
    assert changed == [f"- {STOCK}", f"+ {OBSERVED}"]
    monkeypatch.setenv(strategy.ROOT, str(tmp_path / "root"))
    return folder


def play(folder: Path, capsys: Any) -> str:
    torch.manual_seed(0)
    run_app(folder, clients=5, num_server_rounds=2, local_epochs=1)
    return str(capsys.readouterr().out)


def test_the_quickstart_is_observed_by_one_changed_line(observed_app: Path, tmp_path: Path, capsys: Any) -> None:
    stock = play(QUICKSTART, capsys)
    assert "held out: {'accuracy': 0." in stock
    assert not (tmp_path / "root").exists()
    assert play(observed_app, capsys) == stock
    with FLStore.local(functions=1, root=str(tmp_path / "root")) as store:
        assert store.rounds() == [1, 2]
        assert len(store.clients(2)) == 5
        assert len(store.request("malicious_filtering", round=2).value.frame()) == 5
        assert len(set(store.request("clustering", round=2, k=2).value.labels)) == 2
        assert store.metadata(2)["train_loss"].notna().all()
    with pytest.raises(InvalidParameterError, match=r"has rounds 1 to 2 of an earlier run.*FLSTORE_ROOT.*FLSTORE_JOB"):
        play(observed_app, capsys)
    assert not any(name.split(".")[0] == "quickstart" for name in sys.modules)


def test_every_strategy_of_flower_is_there_under_its_name() -> None:
    names = [name for name in flower_strategy.__all__ if name not in {"Strategy", "Result"}]
    assert len(names) > 10
    for name in names:
        original, ours = getattr(flower_strategy, name), getattr(strategy, name)
        assert issubclass(ours, original)
        assert ours.__name__ == name
        assert ours.start is not original.start
        assert getattr(strategy, name) is ours
    assert strategy.Result is flower_strategy.Result
    assert strategy.Strategy is flower_strategy.Strategy, "a strategy of one's own derives from it and is not observed"
    with pytest.raises(AttributeError, match="FedAvgg"):
        strategy.FedAvgg  # noqa: B018


@pytest.mark.parametrize(
    ("folder", "config", "said"),
    [
        (EXAMPLES, {}, "no Flower app in .*FileNotFoundError.*serverapp and clientapp"),
        (QUICKSTART, {"learning_rat": 1.0}, r"no configuration value 'learning-rat'; it has num-server-rounds, "),
    ],
)
def test_what_is_no_app_is_said(folder: Path, config: Any, said: str) -> None:
    with pytest.raises(InvalidParameterError, match=said):
        run_app(folder, **config)


# --- real processes -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ray_runs_the_app_and_clients_keep_their_ids(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with FLStore.local(functions=1, root=str(tmp_path)) as store:
        history, answer = simulate(clients=3, store=store, cpus=2, **{**TINY, "per_round": 3})
        assert len(history.accuracy) == 3
        assert [store.clients(r) for r in (1, 2)] == [["0", "1", "2"]] * 2
        assert len(answer.value.frame()) == 3
        assert all(int(node) > 2 for node in store.metadata(2)["node_id"])  # wider than 64 bits have with a sign


@contextmanager
def deployment(folder: Path, nodes: int, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """A SuperLink and SuperNodes on free ports of loopback; what `flwr run` needs in its environment."""
    port, *others = _free_ports(nodes + 1)
    home = folder / "flwr"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    programs = sysconfig.get_path("scripts")
    environment = {
        **os.environ, **environment, "FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1", "PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1",
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    with ExitStack() as stack:

        def start(*command: str) -> None:
            log = stack.enter_context(open(folder / f"{command[0]}-{len(list(folder.iterdir()))}.log", "wb"))
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(_end, process)

        here = ("--insecure", "--host", "127.0.0.1", "--port")
        start("flower-superlink", *here, str(port), "--disable-runtime-dependency-installation")
        _wait(f"http://127.0.0.1:{port}/health")
        for i, own in enumerate(others):
            numbers = f"partition-id={i} num-partitions={nodes}"
            start("flower-supernode", *here, str(own), "--superlink", f"127.0.0.1:{port}", "--node-config", numbers)
        yield environment


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


def _wait(url: str, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, f"{url} does not answer"
            time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server with all that it started; they are of one session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def flwr_run(app: Path, environment: dict[str, str], *config: str) -> str:
    done = subprocess.run(
        ["flwr", "run", str(app), "here", "--stream", "--run-config", " ".join(config)],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_flwr_run_runs_the_app_and_clients_keep_their_ids(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with deployment(tmp_path, 2, {}) as environment:
        said = flwr_run(FOUR_MODELS, environment, f'flstore-root="{root}"', "rounds=2", "max-batches=1", "seed=2")
    assert "MaliciousFilteringResult" in said, "the store answered in the server's process"
    with FLStore.local(functions=1, root=str(root)) as store:
        assert [store.clients(r) for r in store.rounds()] == [["0", "1"]] * 2
        assert len(store.request("clustering", round=2, k=2).value.labels) == 2


@pytest.mark.slow
def test_flwr_run_runs_the_quickstart_with_one_changed_line(observed_app: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with deployment(tmp_path, 2, {strategy.ROOT: str(root)}) as environment:
        flwr_run(observed_app, environment, "num-server-rounds=2")
    with FLStore.local(functions=1, root=str(root)) as store:
        assert store.rounds() == [1, 2]
        assert len(store.request("malicious_filtering", round=2).value.frame()) == 2
