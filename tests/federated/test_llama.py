"""A language model as a task of inference: the same tokens from every system, and nothing downloaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.baselines import ObjStoreAgg
from flstore.errors import InvalidParameterError, OptionalDependencyError
from flstore.federated import llama
from flstore.workloads import _stages, inference
from flstore.workloads.inference import Inference

CLIENTS, PROMPT, NEW = 10, 6, 4
MODEL = "flstore.federated.llama:tiny"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("llama") / "prompts.npz"
    np.savez(path, x=llama.prompts(CLIENTS, PROMPT, NEW, llama.TINY.vocabulary))
    return {"model": MODEL, "data": str(path)}


def reference(weights: dict[str, Any]) -> np.ndarray:
    """Token by token, one client at a time, without a cache of keys and values: the library's own model with a head."""
    torch, transformers = _stages.torch_module(), llama.transformers_module()
    torch.manual_seed(0)
    config = llama.build(llama.TINY).model.config
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    model.load_state_dict({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]})
    found = []
    for prompt in llama.prompts(CLIENTS, PROMPT, NEW, llama.TINY.vocabulary)[:, :PROMPT]:
        tokens = torch.from_numpy(prompt)[None]
        with torch.inference_mode():
            for _ in range(NEW):
                best = model(input_ids=tokens, use_cache=False).logits[:, -1].argmax(dim=-1, keepdim=True)
                tokens = torch.cat([tokens, best], dim=1)
        found.append(tokens[0, PROMPT:].numpy())
    return np.stack(found)


def test_it_has_the_size_of_llama_3_2_1b() -> None:
    assert llama.LLAMA_1B.parameters == 1_235_814_400
    torch = _stages.torch_module()
    with torch.device("meta"):
        model = llama.llama_1b()
    own = {name: (tuple(t.shape), t.dtype) for name, t in model.state_dict().items()}
    assert own == {name: (shape, torch.bfloat16) for name, shape in llama.LLAMA_1B.shapes()}
    assert model.model.rotary_emb.inv_freq.dtype is torch.float32


@pytest.mark.slow  # a function's process imports torch and transformers
def test_the_systems_generate_what_the_library_does(task: dict[str, Any], tmp_path: Path) -> None:
    weights = llama.weights(llama.TINY)
    with FLStore.local(functions=1, memory="64MiB", root=str(tmp_path / "root")) as store:
        store.ingest(1, {}, aggregate=weights)
        store.flush()
        ours = store.request("inference", round=1, **task)
    with ObjStoreAgg(str(tmp_path / "root")) as baseline:
        theirs = baseline.request("inference", round=1, **task)
    assert (ours.record.hits, theirs.record.misses) == (1, 1)
    assert ours.value.outputs.shape == (CLIENTS, NEW)
    assert ours.value.outputs.dtype == np.int64
    np.testing.assert_array_equal(ours.value.outputs, theirs.value.outputs)
    np.testing.assert_array_equal(ours.value.outputs, reference(weights))
    assert len(ours.value.predictions) == 0
    assert len(ours.value.frame()) == CLIENTS


def test_the_way_of_large_models_gives_the_same(
    task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = llama.weights(llama.TINY)
    with ObjStoreAgg(str(tmp_path / "root")) as store:
        store.ingest(1, {}, aggregate=weights)
        kept = store.request("inference", round=1, **task).value.outputs
        monkeypatch.setattr(inference, "LARGE_BYTES", 0)
        np.testing.assert_array_equal(store.request("inference", round=1, **task).value.outputs, kept)


def test_a_model_held_in_parts_is_put_together(task: dict[str, Any], tmp_path: Path) -> None:
    weights = llama.weights(llama.TINY)
    size = sum(2 * t.numel() for t in weights.values())
    options: dict[str, Any] = {"memory": int(1.7 * size), "scratch_share": 0.65}
    with FLStore.local(functions=2, root=f"memory://{tmp_path.name}-llama", **options) as store:
        store.ingest(1, {}, aggregate=weights)
        store.flush()
        assert len(store._state.striped) == 1
        answer = store.request("inference", round=1, **task)
    np.testing.assert_array_equal(answer.value.outputs, reference(weights))


def test_published_weights_are_read_from_files(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights = llama.weights(llama.TINY, seed=3)
    names = list(weights)
    save_file({name: weights[name] for name in names[:5]}, tmp_path / "model-00001-of-00002.safetensors")
    rest = {name: weights[name] for name in names[5:]} | {"lm_head.weight": weights[names[0]].clone()}
    save_file(rest, tmp_path / "model-00002-of-00002.safetensors")
    found = llama.weights(llama.TINY, tmp_path)
    assert list(found) == names
    assert all((found[name] == weights[name]).all() for name in names)
    with pytest.raises(InvalidParameterError, match=r"model\.embed_tokens\.weight has shape \(128256, 2048\)"):
        llama.weights(llama.LLAMA_1B, tmp_path)


@pytest.mark.parametrize("x", [np.full((2, 4), 7), np.full((2, 4), -1), np.array([[1, 2, -1], [1, -1, -1]])])
def test_data_that_leaves_nothing_to_find_is_refused(x: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=x)
    with ObjStoreAgg(str(tmp_path / "root")) as store:
        store.ingest(1, {}, aggregate=llama.weights(llama.TINY))
        with pytest.raises(InvalidParameterError, match="rows of token ids"):
            store.request("inference", round=1, model=MODEL, data=str(tmp_path / "x.npz"))


def test_without_transformers_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(OptionalDependencyError, match=r'pip install "flstore\[llm\]"'):
        llama.tiny()
    with pytest.raises(OptionalDependencyError, match=r"flstore\[llm\]"):
        _stages.Stages(Inference.name, MODEL)
