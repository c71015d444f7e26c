"""NVIDIA FLARE: its own objects go through the observer, and once its own simulator runs the whole job."""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.errors import InvalidParameterError, OptionalDependencyError
from flstore.testing.clusters import dask_cluster

pytest.importorskip("nvflare")

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.abstract.model import make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from flstore.federated import FLStoreObserver

pytestmark = pytest.mark.filterwarnings("ignore:Not all of round:RuntimeWarning")

OPTIONS = {"functions": 1, "memory": "64MiB"}
MODEL = {"w": np.arange(6, dtype=np.float32), "steps": np.array(0, np.int64)}


class Server:
    """What FLARE's server does to a component, with FLARE's own contexts and messages."""

    def __init__(self, observer: FLStoreObserver) -> None:
        self.observer = observer
        self.contexts = FLContextManager(engine=None, identity_name="server", job_id="job-1")
        self.fire(EventType.START_RUN)

    def fire(self, event: str, client: str | None = None, **props: Any) -> None:
        ctx = self.contexts.new_context()
        if client is not None:
            peer = FLContext()
            peer.put(ReservedKey.IDENTITY_NAME, client, private=False, sticky=False)
            ctx.set_peer_context(peer)
        for name, value in props.items():
            ctx.set_prop(getattr(AppConstants, name, None) or getattr(FLContextKey, name), value, sticky=False)
        self.observer.handle_event(event, ctx)

    def send(self, round: int, model: dict[str, Any], *clients: str) -> None:
        for client in clients:
            task = FLModelUtils.to_shareable(FLModel(params=model, current_round=round))
            self.fire(AppEventType.BEFORE_TRAIN_TASK, client, TRAIN_SHAREABLE=task, TASK_NAME="train")

    def receive(self, round: int, client: str, result: Shareable, accepted: bool = True, task: str = "train") -> None:
        result.add_cookie(AppConstants.CONTRIBUTION_ROUND, round)
        self.fire(EventType.BEFORE_PROCESS_SUBMISSION, client, TASK_RESULT=result, TASK_NAME=task)
        props = {"TASK_RESULT": result, "CURRENT_ROUND": round, "AGGREGATION_ACCEPTED": accepted}
        self.fire(AppEventType.AFTER_CONTRIBUTION_ACCEPT, client, **props)

    def aggregate(self, round: int, model: dict[str, Any]) -> None:
        learned = make_model_learnable(model, {})
        self.fire(AppEventType.AFTER_SHAREABLE_TO_LEARNABLE, CURRENT_ROUND=round, GLOBAL_MODEL=learned)

    def end(self) -> None:
        self.fire(EventType.END_RUN)


def model(params: dict[str, Any], kind: ParamsType = ParamsType.FULL, **more: Any) -> Shareable:
    return FLModelUtils.to_shareable(FLModel(params=params, params_type=kind, **more))


def plus(params: dict[str, Any], number: float) -> dict[str, Any]:
    return {name: (array + number).astype(array.dtype) for name, array in params.items()}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server whose store lives in this process, which makes it quick."""
    found = Server(FLStoreObserver(f"memory://{tmp_path.name}", options=OPTIONS))
    yield found
    found.end()


def stored(server: Server) -> FLStore:
    store = server.observer._store
    assert store is not None
    server.observer._feeder.flush()
    return store


@pytest.mark.parametrize("place", ["local", "address"])
def test_a_run_is_recorded_and_then_answers_three_questions(tmp_path: Path, place: str, request: pytest.FixtureRequest):
    how: dict[str, Any] = {"options": OPTIONS}
    if place == "address":
        cluster = request.getfixturevalue("cluster")
        how = {"address": cluster.address, "options": {"security": cluster.security, "memory": "64MiB"}}
    server = Server(FLStoreObserver(str(tmp_path), job="hospitals", **how))
    clients = [f"hospital-{i}" for i in range(4)]
    globally = MODEL
    for round in range(2):
        server.send(round, globally, *clients)
        for i, client in enumerate(clients):
            metrics = {"loss": 1.0 / (i + 1), "curve": [1, 2]}
            meta = {"NUM_STEPS_CURRENT_ROUND": 7 + i, "lr": 0.1, "configs": {"a": 1}}
            server.receive(round, client, model(plus(globally, i), metrics=metrics, meta=meta))
        globally = plus(globally, 1)
        server.aggregate(round, globally)
    server.end()
    with FLStore.local(root=str(tmp_path), job="hospitals", **OPTIONS) as store:
        assert (store.rounds(), store.clients()) == ([1, 2], clients)
        np.testing.assert_array_equal(store.aggregate(0)["w"], MODEL["w"])
        np.testing.assert_array_equal(store.aggregate(2)["w"], MODEL["w"] + 2)
        np.testing.assert_array_equal(store.update(2, "hospital-3")["w"], MODEL["w"] + 4)
        told = store.metadata(1)
        assert told["loss"].tolist() == [1.0, 1 / 2, 1 / 3, 1 / 4]
        assert told["num_steps"].tolist() == [7, 8, 9, 10]
        said = set(told.dropna(axis=1, how="all"))
        assert said == {"reply_s", "loss", "lr", "num_steps", "size_bytes", "nonfinite", "bytes", "available"}
        assert store.request("cosine_similarity", round=2).value.similarity[1, 2] == pytest.approx(1)
        assert store.request("malicious_filtering", round=1).value.of == "delta"
        assert store.request("scheduling_performance", by="oort", count=2).value.clients == clients


def test_torch_tensors_keep_their_dtypes_and_a_difference_becomes_a_model(server: Server):
    torch = pytest.importorskip("torch")
    globally = {"w": torch.linspace(0, 1, 5, dtype=torch.bfloat16), "b": torch.ones(2), "n": torch.tensor(3)}
    server.send(0, globally, "a", "b", "c")
    change = {"w": torch.full((5,), 0.5, dtype=torch.bfloat16), "n": torch.tensor(2)}
    server.receive(0, "a", model(change, ParamsType.DIFF))
    server.receive(0, "b", model({name: tensor + 1 for name, tensor in globally.items()}))
    server.receive(0, "c", model({"x": torch.ones(1)}, ParamsType.DIFF))
    with pytest.raises(ValueError, match="a difference has 'x', which the model of round 0 has not"):
        stored(server)
    store = stored(server)
    assert store.clients(1) == ["a", "b"]
    for client, expected in (("a", {**globally, "w": globally["w"] + 0.5, "n": torch.tensor(5)}),
                             ("b", {name: tensor + 1 for name, tensor in globally.items()})):  # fmt: skip
        found = store.restore(1, client=client)
        assert list(found) == list(globally)
        for name, tensor in expected.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)
    assert "difference" in store.metadata(1).loc[(1, "c"), "error"]


def test_who_fails_is_silent_or_refused_is_told(server: Server):
    server.send(0, MODEL, "good", "broken", "silent", "refused", "odd", "metrics")
    server.receive(0, "good", model(plus(MODEL, 1)))
    server.receive(0, "broken", make_reply(ReturnCode.EXECUTION_EXCEPTION))
    server.receive(0, "refused", model(plus(MODEL, 9)), accepted=False)
    server.receive(0, "odd", DXO(DataKind.ANALYTIC, {"key": 1}).to_shareable())
    server.receive(0, "metrics", DXO(DataKind.METRICS, {"accuracy": 0.5}).to_shareable())
    server.receive(0, "validator", model(plus(MODEL, 2)), task="validate")
    server.aggregate(0, plus(MODEL, 1))
    store = stored(server)
    told = store.metadata(1).droplevel("round")
    assert store.clients(1) == ["good", "refused"]
    assert told["error"].dropna().to_dict() == {
        "broken": "EXECUTION_EXCEPTION",
        "odd": "a result of kind ANALYTIC, which is no model",
        "silent": "no answer",
    }
    assert told["accepted"].dropna().to_dict() == {"refused": False}
    assert told.loc["metrics", "accuracy"] == 0.5
    assert "validator" not in told.index


def test_what_comes_after_its_round_is_kept_in_it_and_marked(server: Server):
    for round in range(3):
        server.send(round, plus(MODEL, round), "quick", "slow")
        server.receive(round, "quick", model(plus(MODEL, round + 1)))
        server.aggregate(round, plus(MODEL, round + 1))
    server.receive(0, "slow", model({"w": np.full(6, 5, np.float32)}, ParamsType.DIFF))
    store = stored(server)
    np.testing.assert_array_equal(store.update(1, "slow")["w"], MODEL["w"] + 5)
    told = store.metadata()
    assert told.loc[(1, "slow"), ["late", "staleness"]].tolist() == [True, 3]
    assert told.loc[(1, "slow")].isna()["error"]
    assert told.loc[(2, "slow"), "error"] == "no answer"
    assert told.loc[(2, "quick")].isna()["late"]


def test_a_client_cannot_send_into_a_round_to_come(server: Server):
    server.send(0, MODEL, "a", "b")
    server.receive(900, "a", model(plus(MODEL, 1)))
    server.receive(-3, "b", model(plus(MODEL, 1)))
    assert stored(server).rounds() == [1]


def test_the_arguments_survive_the_export_of_a_job(tmp_path: Path):
    from nvflare.job_config.api import FedJob

    given = {
        "root": "s3://bucket/runs", "job": None, "address": "tls://127.0.0.1:8786", "tasks": ["train", "tune"],
        "buffer_bytes": 1000, "options": {"functions": 4, "security": {"tls_ca_file": "/etc/ca.pem"}},
    }  # fmt: skip
    job = FedJob(name="export", min_clients=1)
    job.set_app_packages(["flstore"])
    job.to_server(FLStoreObserver(**given), id="flstore")
    job.export_job(str(tmp_path))
    (config,) = tmp_path.rglob("config_fed_server.json")
    (component,) = [c for c in json.loads(config.read_text())["components"] if c["id"] == "flstore"]
    assert component["path"] == "flstore.federated.nvflare.FLStoreObserver"
    again = FLStoreObserver(**component["args"])
    assert {name: getattr(again, name) for name in given} == given
    assert not list(tmp_path.rglob("flstore"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"root": ""}, "root is a directory or URL"),
        ({"root": "x", "options": {"security": object()}}, "go through JSON"),
        ({"root": "x", "tasks": "train"}, "list of task names"),
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(arguments: dict[str, Any], words: str):
    with pytest.raises(InvalidParameterError, match=words):
        FLStoreObserver(**arguments)


def test_a_store_that_does_not_open_or_is_lost_is_told_of_and_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("")
    server = Server(FLStoreObserver(str(tmp_path / "file"), options=OPTIONS))
    assert "nothing of this run is recorded" in caplog.text
    server.send(0, MODEL, "a")
    server.end()

    caplog.clear()
    server = Server(FLStoreObserver(f"memory://{tmp_path.name}", options=OPTIONS))
    server.send(0, MODEL, "a", "b")
    stored(server).ingest(1, {"a": plus(MODEL, 7)})
    server.receive(0, "a", model(plus(MODEL, 1)))
    server.receive(0, "b", model(plus(MODEL, 1)))
    by_nobody = model(MODEL, current_round=0)
    server.fire(EventType.BEFORE_PROCESS_SUBMISSION, TASK_RESULT=by_nobody, TASK_NAME="train")
    server.end()
    assert "not all of this run was stored: " in caplog.text
    assert "UpdateExistsError: another update of client 'a' in round 1" in caplog.text
    assert "without the identity name" in caplog.text


def test_without_nvflare_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "nvflare", None)
    monkeypatch.delitem(sys.modules, "flstore.federated.nvflare")
    for name in [name for name in sys.modules if name.startswith("nvflare.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(OptionalDependencyError, match=r'pip install "flstore\[nvflare\]"'):
        importlib.import_module("flstore.federated.nvflare")


# --- the simulator --------------------------------------------------------------------------------------------------

JOB = """
import json
import sys
from nvflare.app_common.aggregators.intime_accumulate_model_aggregator import InTimeAccumulateWeightedAggregator
from nvflare.app_common.np.np_model_persistor import NPModelPersistor
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather
from nvflare.client.config import ExchangeFormat
from nvflare.job_config.api import FedJob
from nvflare.job_config.script_runner import FrameworkType, ScriptRunner
from flstore.federated import FLStoreObserver

script, workflow, arguments = sys.argv[1:]
job = FedJob(name="simulated", min_clients=2)
job.set_app_packages(["flstore"])
job.to_server(NPModelPersistor(model=[[1.0, 2.0], [3.0, 4.0]]), id="persistor")
if workflow == "fedavg":
    job.to_server(FedAvg(num_clients=2, num_rounds=2))
else:
    job.to_server(FullModelShareableGenerator(), id="shareable_generator")
    job.to_server(InTimeAccumulateWeightedAggregator(expected_data_kind="WEIGHT_DIFF"), id="aggregator")
    job.to_server(ScatterAndGather(2, num_rounds=2, wait_time_after_min_received=0, persistor_id="persistor"))
job.to_server(FLStoreObserver(**json.loads(arguments)), id="flstore")
kind = "diff" if workflow == "scatter" else ""
numpy = ExchangeFormat.NUMPY
runner = ScriptRunner(script, script_args=kind, framework=FrameworkType.RAW, server_expected_format=numpy)
job.to_clients(runner, tasks=["train"])
# One at a time: FLARE 2.9 may lose a client when it starts two processes in the same moment.
sys.exit(job.simulator_run("workspace", n_clients=2, threads=1))
"""


@pytest.fixture
def simulate(tmp_path: Path) -> Callable[..., None]:
    def run(workflow: str, **arguments: Any) -> None:
        (tmp_path / "job.py").write_text(JOB)
        script = Path(__file__).with_name("nvflare_client.py")
        (tmp_path / script.name).write_bytes(script.read_bytes())
        command = [sys.executable, "job.py", script.name, workflow, json.dumps(arguments)]
        path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        env = {**os.environ, "PYTHONPATH": path}
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            output = process.communicate(timeout=600)[0].decode(errors="replace")
        finally:
            _end_all(process.pid)
        assert process.returncode == 0, output[-4000:]

    return run


def _end_all(pid: int) -> None:
    """End a process and all that it started; FLARE's are in sessions of their own."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            logging.getLogger(__name__).debug("process %d ended by itself", member.pid)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Dask cluster that somebody else runs."""
    with dask_cluster(workers=1) as found:
        yield found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workflow", ["scatter", "fedavg"])
def test_the_simulator_runs_a_job_and_the_store_answers_about_it(
    simulate: Callable[..., None], workflow: str, tmp_path: Path, request: pytest.FixtureRequest
):
    """FedAvg's job reaches its functions by address, the other one starts its own."""
    root, where = str(tmp_path / "root"), {}
    options: dict[str, Any] = OPTIONS
    if workflow == "fedavg":
        cluster = request.getfixturevalue("cluster")
        where, options = {"address": cluster.address}, {"security": cluster.security, "memory": "64MiB"}
    simulate(workflow, root=root, options=options, **where)
    with FLStore.local(root=root, **OPTIONS) as store:
        assert (store.rounds(), store.clients()) == ([1, 2], ["site-1", "site-2"])
        start = np.array([[1, 2], [3, 4]], np.float32)
        for round in (0, 1, 2):
            np.testing.assert_allclose(store.aggregate(round)["numpy_key"], start + 1.5 * round, rtol=1e-6)
        np.testing.assert_allclose(store.update(2, "site-2")["numpy_key"], start + 3.5, rtol=1e-6)
        told = store.metadata()
        assert told["loss"].tolist() == [1.0, 2.0, 0.5, 1.0]
        assert (told["reply_s"] > 0).all()
        assert store.closed_rounds() == [0, 1, 2]
        assert store.request("cosine_similarity", round=2).value.of == "delta"
        assert store.request("malicious_filtering", round=1).value.flagged == []
        oort = store.request("scheduling_performance", by="oort", count=2).value
        assert oort.clients == ["site-1", "site-2"]
