"""The pages about loops of one's own run as they stand, and do what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg

DOCS = Path(__file__).parents[2] / "docs"
MOST_LINES = 20


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_hook_for_a_loop_of_ones_own_is_short():
    (hook,) = [b for b in blocks("plain-pytorch.md") if "def train" in b]
    assert len([line for line in hook.splitlines() if line.strip()]) <= MOST_LINES


def test_a_plain_pytorch_loop_is_recorded_and_goes_on_from_what_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    hook, run, again, with_flower = blocks("plain-pytorch.md")
    exec(hook, names)
    with_start = run.replace(
        "with FLStore", "first = {k: v.clone() for k, v in model.state_dict().items()}\nwith FLStore"
    )
    exec(with_start, names)
    names["model"] = torch.nn.Linear(8, 3)  # another process has other weights
    exec(again, names)
    assert capsys.readouterr().out.splitlines()[0] == "[]"
    model = torch.nn.Linear(8, 3)
    model.load_state_dict(names["first"])
    with FLStore.local(functions=1, root=f"memory://{tmp_path.name}", memory="64MiB") as store:
        names["train"](store, model, names["clients"], rounds=4)
        with ObjStoreAgg("./flstore-data") as interrupted:
            assert interrupted.rounds() == store.rounds() == [1, 2, 3, 4]
            for name, tensor in model.state_dict().items():
                np.testing.assert_array_equal(interrupted.aggregate(4)[name], tensor.numpy())
            assert interrupted.metadata()["train_loss"].equals(store.metadata()["train_loss"])
    assert all(line.startswith("#") for line in with_flower.splitlines())  # that one is in test_restore.py


def test_an_asynchronous_server_keeps_what_is_late_and_differences_are_from_the_right_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (example,) = blocks("asynchronous.md")
    exec(example, names)
    with ObjStoreAgg("./flstore-data") as store:
        assert store.closed_rounds() == [0, 1, 2]
        told = store.metadata()
        assert told["used_in"].to_dict() == {
            (1, "fast"): 1, (1, "quick"): 1, (1, "slow"): 2, (2, "fast"): 2, (2, "quick"): 3
        }  # fmt: skip
        late = told[told["late"].eq(True)]
        assert late["staleness"].to_dict() == {(1, "slow"): 1, (2, "quick"): 1}
        for round in (1, 2):
            made = [store.update(round, c)["w"] - store.aggregate(round - 1)["w"] for c in store.clients(round)]
            unit = np.stack([d / np.linalg.norm(d) for d in made])
            value = store.request("cosine_similarity", round=round, of="delta").value
            np.testing.assert_allclose(value.similarity, unit @ unit.T, rtol=1e-9, atol=1e-12)
