"""Shortcuts for small images give what the layers give."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from flstore.federated.data import digits
from flstore.federated.models import build
from flstore.workloads._shortcuts import Shortcuts

torch = pytest.importorskip("torch")


def both(model, x):
    """Outputs as they are, and with shortcuts and channels last; and how many layers have one."""
    model = model.eval()
    with torch.inference_mode():
        expected = model(x).numpy()
    small = Shortcuts(model, x)
    model.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        small.prepare()
        found = model(x.contiguous(memory_format=torch.channels_last)).numpy()
    return expected, found, len(small), small


def equal(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * float(np.abs(expected).max()))


SHAPES = list(itertools.product((1, 3, 5), (1, 2), (0, 1, 2), (1, 2), ((1, 1), (2, 2), (1, 3), (2, 1), (4, 4))))


@pytest.mark.parametrize("groups", [1, 6, 2])
def test_every_geometry_of_a_convolution(groups):
    replaced = 0
    for i, (kernel, stride, padding, dilation, size) in enumerate(SHAPES):
        torch.manual_seed(i)
        layer = torch.nn.Conv2d(6, 6, kernel, stride, padding, dilation, groups, bias=bool(i % 2))
        if any(n + 2 * padding < dilation * (kernel - 1) + 1 for n in size):
            continue  # no output at all
        expected, found, shortcuts, _ = both(layer, torch.randn(5, 6, *size))
        equal(found, expected)
        replaced += shortcuts
    assert replaced > 50


@pytest.mark.parametrize(
    "layer",
    [
        lambda: torch.nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        lambda: torch.nn.Conv2d(4, 4, 3, padding="same"),
        lambda: torch.nn.ConvTranspose2d(4, 4, 3, padding=1),
    ],
)
def test_what_is_not_known_stays_as_it_is(layer):
    expected, found, shortcuts, _ = both(layer(), torch.randn(3, 4, 2, 2))
    assert shortcuts == 0
    equal(found, expected)


def test_a_subclass_of_a_convolution_may_compute_something_else():
    class Doubled(torch.nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    expected, found, shortcuts, _ = both(Doubled(4, 4, 1), torch.randn(3, 4, 1, 1))
    assert shortcuts == 0
    equal(found, expected)


def test_a_layer_that_sees_two_shapes_has_no_shortcut():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x):
            return self.conv(x).mean((2, 3)) + self.conv(x[:, :, :1, :1]).mean((2, 3))

    expected, found, shortcuts, _ = both(Twice(), torch.randn(3, 4, 2, 2))
    assert shortcuts == 0
    equal(found, expected)


def test_other_shapes_new_weights_hooks_and_the_way_back():
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.ReLU())
    x = torch.randn(3, 4, 1, 1)
    _, _, shortcuts, small = both(model, x)
    assert shortcuts == 1
    twin = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.ReLU())
    model.load_state_dict(twin.state_dict())
    seen = []
    model[0].register_forward_hook(lambda layer, given, result: seen.append(result))
    with torch.inference_mode():
        small.prepare()
        equal(model(x).numpy(), twin(x).numpy())
        assert len(seen) == 1
        larger = torch.randn(2, 4, 6, 5)  # the layer's own forward takes it
        equal(model(larger).numpy(), twin(larger).numpy())
        small.revert()
        assert "forward" not in vars(model[0])
        equal(model(x).numpy(), twin(x).numpy())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_v2_s", "swin_v2_t"])
def test_the_networks_of_the_paper_answer_the_same(name):
    model = build(name, seed=3)
    with torch.no_grad():
        for tensor in model.parameters():  # fresh biases and norms are zeros and ones
            tensor += 0.02 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel()))
    expected, found, shortcuts, _ = both(model, torch.tensor(digits().test_images[:12]))
    equal(found, expected)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    assert shortcuts >= 5
