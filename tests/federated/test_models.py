import ml_dtypes
import numpy as np
import pytest
import torch

from flstore.errors import InvalidParameterError, InvalidUpdateError, UnknownNameError
from flstore.federated import MODELS, build, load_arrays, state_arrays

SIZE_BYTES = {"efficientnet_v2_s": 81.4, "resnet18": 44.8, "mobilenet_v3_small": 6.2, "swin_v2_t": 110.8}
TENSORS = {"efficientnet_v2_s": 782, "resnet18": 122, "mobilenet_v3_small": 244, "swin_v2_t": 233}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_the_paper_s_size_and_answers_small_images(name: str):
    model = build(name)
    arrays = state_arrays(model)
    assert len(arrays) == TENSORS[name]
    assert round(sum(a.nbytes for a in arrays.values()) / 1e6, 1) == SIZE_BYTES[name]
    with torch.inference_mode():
        assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, same, other = (state_arrays(build("mobilenet_v3_small", seed=s)) for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)  # the caller's random numbers are untouched
    assert all(np.array_equal(one[k], same[k]) for k in one)
    assert not np.array_equal(one["features.0.0.weight"], other["features.0.0.weight"])


def test_networks_suit_clients_that_have_few_batches():
    """The reasons are with the code; without these settings the networks do not learn the digits."""
    efficientnet, mobilenet, swin = map(build, ("efficientnet_v2_s", "mobilenet_v3_small", "swin_v2_t"))
    for model in (efficientnet, mobilenet):
        assert {m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.3}
    for model in (efficientnet, swin):
        dropping = [m.p for m in model.modules() if type(m).__name__ in ("Dropout", "StochasticDepth")]
        assert len(dropping) > 20
        assert set(dropping) == {0.0}
    blocks = [m.train() for m in efficientnet.modules() if getattr(m, "use_res_connect", False)]
    assert len(blocks) == 35
    narrow = [b for b in blocks if b.block[0][0].in_channels == 24]
    x = torch.rand(2, 24, 8, 8)
    assert all(torch.equal(block(x), x) for block in narrow)
    assert narrow


def test_unknown_names_and_sizes():
    with pytest.raises(UnknownNameError, match="'resnet18'"):
        build("resnet19")
    with pytest.raises(InvalidParameterError, match="num_classes is 0"):
        build("resnet18", num_classes=0)


def test_arrays_are_copies_and_load_back_exactly():
    model, other = build("mobilenet_v3_small", seed=1), build("mobilenet_v3_small", seed=2)
    arrays = state_arrays(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert arrays["features.0.0.weight"].any()
    arrays["features.0.0.weight"].setflags(write=False)  # as decoded updates are
    load_arrays(other, arrays)
    back = state_arrays(other)
    assert list(back) == list(arrays)
    assert all(back[k].dtype == arrays[k].dtype and np.array_equal(back[k], arrays[k]) for k in arrays)


def test_bfloat16_goes_both_ways():
    layer = torch.nn.Linear(3, 2).to(torch.bfloat16)
    arrays = state_arrays(layer)
    assert arrays["weight"].dtype == ml_dtypes.bfloat16
    other = torch.nn.Linear(3, 2).to(torch.bfloat16)
    load_arrays(other, arrays)
    assert torch.equal(other.weight, layer.weight)


def test_arrays_of_another_network_are_refused_and_change_nothing():
    layer = torch.nn.Linear(3, 2)
    before = state_arrays(layer)
    with pytest.raises(InvalidUpdateError, match=r"'weight'.*\(2, 3\).*\(3, 3\)"):
        load_arrays(layer, {"bias": np.ones(2, np.float32), "weight": np.ones((3, 3), np.float32)})
    with pytest.raises(InvalidUpdateError, match=r"'extra'.*absent"):
        load_arrays(layer, {**before, "extra": np.ones(1)})
    with pytest.raises(InvalidUpdateError, match="'bias'"):
        load_arrays(layer, {"weight": before["weight"]})
    after = state_arrays(layer)
    assert all(np.array_equal(before[k], after[k]) for k in before)
