"""Whatever a network does, its outputs are those of plain torch with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flstore.codec import decode, encode
from flstore.types import Key, Kind
from flstore.workloads._evaluate import Evaluator
from tests.workloads import nets

torch = pytest.importorskip("torch")
NETS = ("odd", "fusible", "crowd", "hooked", "normed", "convolutions", "viewed", "converted", "extra")


def made(name: str, precision: str | None = None) -> Evaluator:
    return Evaluator("test", f"tests.workloads.nets:{name}", "tests.workloads.nets:many_images", precision)


def weights(name: str, seed: int) -> dict[str, np.ndarray]:
    """As after training: no statistics are zeros and ones."""
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = getattr(nets, name)().state_dict()
    return {
        key: (tensor.abs() if "var" in key else tensor).add(torch.rand(tensor.shape, generator=random)).mul(0.5).numpy()
        if tensor.is_floating_point()
        else tensor.numpy()
        for key, tensor in state.items()
    }


def plain(name: str, arrays: dict[str, np.ndarray]) -> Any:
    model = getattr(nets, name)()
    model.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(nets.many_images()[0])).numpy()


def equal(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max()))


@pytest.mark.parametrize("name", NETS)
def test_outputs_are_those_of_torch(name: str) -> None:
    judge = made(name)
    many = [weights(name, seed) for seed in (1, 2, 3, 1)]
    found = judge.outputs_of(many)
    for outputs, arrays in zip(found, many, strict=True):
        equal(outputs, plain(name, arrays))
    np.testing.assert_array_equal(found[0], found[3])
    np.testing.assert_array_equal(judge.outputs(many[1]), found[1])


def test_what_can_be_taken_into_the_layers_before_is() -> None:
    (first, *_) = made("fusible")._models
    assert first.short is not None
    assert len(first.short._followers) == 10
    assert first.short.own() == set(nets.fusible().state_dict())


def test_a_net_of_which_a_copy_may_share_something_runs_alone() -> None:
    assert len(made("hooked")._models) == 1
    two = made("convolutions")._models
    assert len(two) <= 2
    assert len({id(model.module) for model in two}) == len(two)


@pytest.mark.parametrize("name", ["odd", "fusible", "convolutions"])
def test_who_looks_at_layers_sees_what_they_give_in_torch(name: str) -> None:
    x, seen = torch.from_numpy(nets.many_images()[0]), []

    def look(module: Any) -> list[Any]:
        found: list[Any] = []
        leaves = [
            layer for layer in module.modules() if not any(layer.children()) and any(True for _ in layer.parameters())
        ]
        hooks = [layer.register_forward_hook(lambda _, __, out: found.append(out.clone())) for layer in leaves]
        module(x)
        for hook in hooks:
            hook.remove()
        return found

    many = [weights(name, seed) for seed in (4, 5)]
    judge = made(name)
    judge.outputs_of(many)  # with followers taken in
    for arrays, outputs in zip(many, judge.each(many, look), strict=True):
        model = getattr(nets, name)()
        model.load_state_dict({key: torch.tensor(array) for key, array in arrays.items()})
        with torch.inference_mode():
            seen = look(model.eval())
        assert len(seen) == len(outputs) > 0
        for mine, other in zip(outputs, seen, strict=True):
            equal(mine.numpy(), other.numpy())


@pytest.mark.parametrize("part", ["0.weight", "1.running_mean", "4.running_var", "6.weight", "20.bias"])
def test_what_is_not_finite_shows(part: str) -> None:
    arrays = {key: array.copy() for key, array in weights("fusible", 6).items()}
    arrays[part].reshape(-1)[0] = np.nan
    expected = np.isfinite(plain("fusible", arrays))
    assert not expected.all()
    np.testing.assert_array_equal(np.isfinite(made("fusible").outputs(arrays)), expected)


def test_weights_are_let_go() -> None:
    judge = made("fusible")
    update = decode(encode(Key("job", Kind.UPDATE, 1, "c"), weights("fusible", 7)))
    judge.outputs_of([update, update])
    judge.each([update], lambda module: None)
    memory = np.frombuffer(update.buffer, np.uint8)
    kept = [tensor for model in judge._models for tensor in model.tensors()]
    assert kept
    assert not any(np.shares_memory(memory, tensor.numpy()) for tensor in kept)


def test_bfloat16_is_near_and_not_the_same() -> None:
    arrays = weights("fusible", 8)
    exact, brief = made("fusible").outputs(arrays), made("fusible", "bfloat16").outputs(arrays)
    assert brief.dtype == np.float32
    assert not np.array_equal(brief, exact)
    np.testing.assert_allclose(brief, exact, atol=0.05 * float(np.abs(exact).max()))
    np.testing.assert_array_equal(made("fusible", "float32").outputs(arrays), exact)


def test_what_it_keeps_is_counted() -> None:
    judge = made("fusible")
    stored = sum(array.nbytes for array in weights("fusible", 0).values())
    assert judge.size_bytes >= stored + 2 * judge.x.nbytes - 1
