"""A model that fits no single function is held in parts, and answers layer by layer, as it would in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flstore import FLStore
from flstore.errors import InvalidParameterError, UpdateNotFoundError
from flstore.types import Cut, Kind
from tests.store import tiny_models

MODULE = "tests.store.tiny_models"
MEMORY = 280_000  # of which 252 kB are cache: the model of 0.63 MB needs three functions


def state(name: str, seed: int = 0) -> dict[str, Any]:
    import torch

    torch.manual_seed(seed)
    return getattr(tiny_models, name)().state_dict()


def in_process(name: str, weights: dict[str, Any]) -> np.ndarray:
    import torch

    model = getattr(tiny_models, name)()
    model.load_state_dict(weights)
    with torch.inference_mode():
        return np.concatenate(
            [model(torch.from_numpy(x)).numpy() for x in np.split(tiny_models.digits()[0], [16, 32, 48])]
        )


def ask(store: FLStore, model: str = "sequential", data: str = "digits", **scope: Any) -> Any:
    scope = scope or {"round": 1}
    return store.request("inference", model=f"{MODULE}:{model}", data=f"{MODULE}:{data}", batch_size=16, **scope)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store for each model, with three functions that hold it in parts: processes for one, threads for another."""
    roots = {"sequential": str(tmp_path_factory.mktemp("pipeline")), "staged": "memory://pipeline"}
    opened: dict[str, FLStore] = {}

    def open(model: str) -> FLStore:
        if model not in opened:
            opened[model] = FLStore.local(3, MEMORY, roots[model], model, scratch_share=0.1)
            opened[model].ingest(1, {}, aggregate=state(model))
            opened[model].flush()
        return opened[model]

    yield open
    for store in opened.values():
        store.close()


@pytest.mark.parametrize("model", ["sequential", "staged"])
def test_a_model_in_parts_infers_as_one_process_does(stores: Callable[[str], FLStore], model: str) -> None:
    store = stores(model)
    table = store._state.table((0, Kind.AGGREGATE, 1))
    assert table is not None
    assert (table.parts, table.cut) == (3, Cut.TENSORS)
    result = ask(store, model)
    expected = in_process(model, state(model))
    np.testing.assert_allclose(result.value.outputs, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(result.value.predictions, expected.argmax(axis=1))
    labels = tiny_models.digits()[1]
    assert result.value.accuracy == (expected.argmax(axis=1) == labels).mean()
    log_likelihood = expected[range(50), labels] - np.log(np.exp(expected.astype("f8")).sum(axis=1))
    assert result.value.loss == pytest.approx(-log_likelihood.mean(), rel=1e-5)
    record = result.record
    assert sorted(record.functions) == ["function-0", "function-1", "function-2"]
    assert (record.hits, record.misses) == (1, 0)
    # What comes out of two of the three stages, to the caller and on: no weights.
    activations = 2 * 2 * 50 * tiny_models.WIDTH * 4
    assert activations <= record.bytes_moved < activations + 2_000


def test_a_model_whose_layers_nobody_knows_is_put_together_where_it_fits(open_store: Callable[..., FLStore]) -> None:
    store = open_store(
        functions=3, memory=1_200_000, root="memory://opaque", scratch_share=0.8
    )  # 240 kB cache each, scratch for the model
    store.ingest(1, {}, aggregate=state("opaque"))
    store.flush()
    result = ask(store, "opaque")
    np.testing.assert_allclose(result.value.outputs, in_process("opaque", state("opaque")), rtol=1e-6, atol=1e-6)
    assert len(set(result.record.functions)) <= 3
    assert result.record.bytes_moved > 300_000


def test_a_model_in_parts_is_found_in_the_persistent_store(stores: Callable[[str], FLStore], open_store: Any) -> None:
    root = stores("staged").root
    again = open_store(functions=3, memory=MEMORY, root=root, job="staged", scratch_share=0.1)
    again.flush()
    result = ask(again, "staged")
    np.testing.assert_allclose(
        result.value.outputs, in_process("sequential", state("sequential")), rtol=1e-6, atol=1e-6
    )
    assert set(again._state.striped) == {(0, Kind.AGGREGATE, 1)}


def test_a_model_that_fits_runs_on_one_function(open_store: Callable[..., FLStore]) -> None:
    store = open_store(functions=1, root="memory://fits")
    store.ingest(1, {"c0": state("sequential", 1)}, aggregate=state("sequential"))
    whole = ask(store)
    np.testing.assert_allclose(whole.value.outputs, in_process("sequential", state("sequential")), rtol=1e-6, atol=1e-6)
    one = ask(store, data="unlabelled", round=1, client="c0")
    expected = in_process("sequential", state("sequential", 1))
    np.testing.assert_allclose(one.value.outputs, expected, rtol=1e-6, atol=1e-6)
    assert np.isnan([one.value.loss, one.value.accuracy]).all()
    with pytest.raises(InvalidParameterError, match=f"{MODULE}:nowhere"):
        ask(store, "nowhere")
    with pytest.raises(InvalidParameterError, match=r"broken.*no such file"):
        ask(store, data="broken")
    with pytest.raises(InvalidParameterError, match="does not fit"):
        ask(store, "staged")
    with pytest.raises(InvalidParameterError, match="no_colon"):
        store.request("inference", round=1, model="no_colon", data=f"{MODULE}:digits")
    with pytest.raises(UpdateNotFoundError, match="no aggregate of round 7"):
        ask(store, round=7)
    store.ingest(2, {"c1": state("sequential", 2)})
    with pytest.raises(UpdateNotFoundError, match="took part in: 1"):
        ask(store, round=2, client="c0")
