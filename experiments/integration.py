"""How much of a training program changes for FLStore, and whether what it trains changes: three frameworks, measured.

Each program of ``examples/`` and ``docs/plain-pytorch.md`` runs as it is, and with the lines that its page names.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOP = Path(__file__).parents[1]
FLOWER, LOOP, FLARE = "flower", "own_loop", "nvflare"
NAMES = {FLOWER: "Flower", LOOP: "a PyTorch loop of one's own", FLARE: "NVIDIA FLARE"}


def measure(frameworks: list[str], rounds: int, clients: int) -> pd.DataFrame:
    """Run every program twice, without FLStore and with it.

    Parameters
    ----------
    frameworks : list of {"flower", "own_loop", "nvflare"}
        Whose programs.
    rounds, clients : int
        Of each run; NVIDIA FLARE's job says them itself, two and two.

    Returns
    -------
    DataFrame
        One row a framework: framework, lines_changed (added or replaced, with those of imports), imports_changed,
        rounds, clients, updates (that the store has afterwards), same_model, answered (a request about the last
        round), without_s, with_s (wall seconds of the two runs), diff.
    """
    programs: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {FLOWER: _flower, LOOP: _loop, FLARE: _flare}
    rows = []
    for framework in frameworks:
        with tempfile.TemporaryDirectory() as folder:
            rows.append({"framework": NAMES[framework], **programs[framework](Path(folder), rounds, clients)})
    return pd.DataFrame(rows)


def _flower(folder: Path, rounds: int, clients: int) -> dict[str, Any]:
    import torch
    from flwr.serverapp.strategy import FedAvg

    from flstore.federated import run_app
    from flstore.federated.strategy import ROOT

    source, before, after = TOP / "examples" / "quickstart-pytorch", folder / "before", folder / "after"
    for copy in (before, after):
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = after / "quickstart" / "server_app.py"
    text = path.read_text(encoding="utf-8")
    stock = "from flwr.serverapp.strategy import"
    path.write_text(text.replace(stock, "from flstore.federated.strategy import"), encoding="utf-8")

    def play(app: Path) -> tuple[str, float]:
        """Digest of the model that the strategy hands to the app."""
        models, start = [], FedAvg.start

        def watched(strategy: FedAvg, *args: Any, **options: Any) -> Any:
            result = start(strategy, *args, **options)
            models.append(b"".join(array.tobytes() for array in result.arrays.to_numpy_ndarrays()))
            return result

        torch.manual_seed(0)
        began = time.perf_counter()
        with mock.patch.object(FedAvg, "start", watched), contextlib.redirect_stdout(io.StringIO()):
            run_app(app, clients=clients, num_server_rounds=rounds, local_epochs=1)
        (model,) = models
        return hashlib.sha256(model).hexdigest(), time.perf_counter() - began

    root = str(folder / "root")
    without = play(before)
    with mock.patch.dict(os.environ, {ROOT: root}):
        observed = play(after)
    return {**_changed(text, path.read_text(encoding="utf-8")), **_outcome(root, without, observed)}


def _loop(folder: Path, rounds: int, clients: int) -> dict[str, Any]:
    import torch

    from flstore import FLStore

    page = (TOP / "docs" / "plain-pytorch.md").read_text(encoding="utf-8")
    with_store = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0]
    bare = "".join(line for line in with_store.splitlines(keepends=True) if "store.ingest" not in line)
    bare = bare.replace("    if not done:\n", "")  # which has nothing left in it

    def play(program: str, store: FLStore | None) -> tuple[str, float]:
        names: dict[str, Any] = {}
        exec(compile(program, "plain-pytorch.md", "exec"), names)
        torch.manual_seed(0)
        data = {f"client-{i}": (torch.randn(20, 8), torch.randint(0, 3, (20,))) for i in range(clients)}
        model, began = torch.nn.Linear(8, 3), time.perf_counter()
        names["train"](store, model, data, rounds)
        took = time.perf_counter() - began
        state = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
        return hashlib.sha256(state).hexdigest(), took

    root = str(folder / "root")
    without = play(bare, None)
    with FLStore.local(functions=1, root=root) as store:
        observed = play(with_store, store)
    changed = [line for line in with_store.splitlines() if line not in bare.splitlines()]
    return {
        "lines_changed": len(changed),
        "imports_changed": 0,
        "diff": "\n".join(f"+{line}" for line in changed),
        **_outcome(root, without, observed),
    }


def _flare(folder: Path, rounds: int, clients: int) -> dict[str, Any]:
    source, root = TOP / "examples" / "nvflare", folder / "root"
    text = (source / "job.py").read_text(encoding="utf-8")
    last_import = "from nvflare.job_config.script_runner import FrameworkType, ScriptRunner\n"
    run = "sys.exit(job.simulator_run"
    after = text.replace(last_import, f"{last_import}from flstore.federated import FLStoreObserver\n")
    after = after.replace(run, f'job.to_server(FLStoreObserver({str(root)!r}), id="flstore")\n{run}')

    def play(name: str, program: str) -> tuple[str, float]:
        """Digest of the model that the server leaves."""
        place = folder / name
        place.mkdir()
        (place / "job.py").write_text(program, encoding="utf-8")
        shutil.copy(source / "client.py", place)
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "job.py"], cwd=place, capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"the job of NVIDIA FLARE failed: {(done.stdout + done.stderr)[-2000:]}")
        (model,) = place.rglob("server.npy")
        return hashlib.sha256(model.read_bytes()).hexdigest(), took

    shown = after.replace(str(root), "/tmp/digits")
    return {**_changed(text, shown), **_outcome(str(root), play("before", text), play("after", after))}


def _changed(before: str, after: str) -> dict[str, Any]:
    """Lines that are added or replaced."""
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    new = [line[2:] for line in lines if line[0] == "+"]
    imports = sum(line.startswith(("import ", "from ")) for line in new)
    diff = "\n".join(line[0] + line[2:] for line in lines)
    return {"lines_changed": len(new), "imports_changed": imports, "diff": diff}


def _outcome(root: str, without: tuple[str, float], observed: tuple[str, float]) -> dict[str, Any]:
    """What the store has afterwards, and whether the outcome is the same."""
    from flstore import FLStore

    with FLStore.local(functions=1, root=root) as store:
        last = store.rounds()[-1]
        answer = store.request("malicious_filtering", round=last).value
        return {
            "rounds": len(store.rounds()),
            "clients": len(store.clients(last)),
            "updates": sum(len(store.clients(number)) for number in store.rounds()),
            "same_model": without[0] == observed[0],
            "answered": len(answer.frame()) == len(store.clients(last)),
            "without_s": without[1],
            "with_s": observed[1],
        }


def table(data: pd.DataFrame) -> pd.DataFrame:
    """What changes, and what is there afterwards, by framework."""
    return data.set_index("framework")[["lines_changed", "imports_changed", "updates", "same_model", "answered"]]


def figure(data: pd.DataFrame) -> Figure:
    """Lines that change in each program, imports apart, with what they are."""
    import matplotlib.pyplot as plt
    from style import COLOURS

    drawn, axes = plt.subplots(figsize=(11, 1.2 + 1.3 * len(data)), layout="constrained")
    others = data["lines_changed"] - data["imports_changed"]
    axes.barh(data["framework"], others, color=COLOURS["FLStore"], height=0.4, label="statements")
    imports = {"left": others, "color": COLOURS["FLStore"], "alpha": 0.4, "height": 0.4, "label": "imports"}
    axes.barh(data["framework"], data["imports_changed"], **imports)
    for number, row in enumerate(data.to_dict("records")):
        new = [line[1:].split("#")[0].strip() for line in row["diff"].splitlines() if line.startswith("+")]
        same = "same model" if row["same_model"] else "another model"
        words = "\n".join([*new, f"{same}; {row['updates']} updates kept"])
        axes.annotate(words, (row["lines_changed"] + 0.1, number), va="center", fontsize=8, family="monospace")
    axes.set(xlabel="lines that change", xlim=(0, 9), ylim=(len(data) - 0.5, -0.5))
    axes.set_xticks(range(10))
    axes.legend(loc="lower right")
    drawn.suptitle("Lines that change in a training program, counted; outcome compared bit for bit")
    return drawn
