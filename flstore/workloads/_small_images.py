"""The same layers with less work, for images so small that most of what a layer multiplies is its own padding.

On one pixel a 3x3 convolution is its centre tap, on 2x2 pixels a dense layer; a 1x1 convolution is a matrix product;
and a Swin window that one padded feature map fills attends mostly to padding. Results are those of the layers as they
are, but for float32 rounding. Layers of a kind, or on a shape, that is not known here stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Protocol

from flstore.workloads._stages import torch_module

_FEW_PIXELS = 4
"""Up to here a dense layer multiplies no more than the convolution does, and its matrix is made in no time."""
_MOST_PIXELS = 256
"""Beyond, a convolution is as fast as a matrix product."""


class Shortcut(Protocol):
    """A cheaper ``forward`` of one layer."""

    def prepare(self) -> None:
        """Take over new weights."""
        ...

    def __call__(self, x: Any) -> Any: ...


class SmallImages:
    """Shortcuts of a model for the shapes that one forward pass showed; each layer keeps its weights and its hooks.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode. The ``forward`` of some of its layers is replaced.
    x : torch.Tensor
        A few examples; they go through the model once.
    """

    def __init__(self, model: Any, x: Any) -> None:
        self.largest_bytes = 0
        """The largest output of a layer, for one example."""
        self._replaced: list[tuple[Any, Shortcut]] = []
        for layer, shapes in self._trace(model, x).items():
            shortcut = _shortcut(layer, next(iter(shapes))) if len(shapes) == 1 else None
            if shortcut is not None and "forward" not in vars(layer):
                layer.forward = shortcut
                self._replaced.append((layer, shortcut))

    def _trace(self, model: Any, x: Any) -> dict[Any, set[tuple[int, ...]]]:
        seen: dict[Any, set[tuple[int, ...]]] = {}

        def look(layer: Any, given: Any, result: Any) -> None:
            if len(given) == 1 and hasattr(given[0], "shape"):
                seen.setdefault(layer, set()).add(tuple(given[0].shape[1:]))
            if hasattr(result, "nbytes"):
                self.largest_bytes = max(self.largest_bytes, result.nbytes // len(x))

        hooks = [layer.register_forward_hook(look) for layer in model.modules()]
        try:
            model(x)
        finally:
            for hook in hooks:
                hook.remove()
        return seen

    def __len__(self) -> int:
        return len(self._replaced)

    def prepare(self) -> None:
        """Take over new weights of the model."""
        for _, shortcut in self._replaced:
            shortcut.prepare()

    def revert(self) -> None:
        """Give every layer its own ``forward`` back."""
        for layer, _ in self._replaced:
            del layer.forward
        self._replaced.clear()


def _shortcut(layer: Any, shape: tuple[int, ...]) -> Shortcut | None:
    nn = torch_module().nn
    if type(layer) is nn.Conv2d:  # a subclass may compute something else
        return _convolution(layer, shape)
    swin = sys.modules.get("torchvision.models.swin_transformer")
    if swin is not None and type(layer) is swin.ShiftedWindowAttentionV2:
        return _window(layer, shape)
    return None


def _convolution(layer: Any, shape: tuple[int, ...]) -> Shortcut | None:
    if len(shape) != 3 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    (height, width), (rows, columns) = shape[1:], layer.kernel_size
    if height * width <= min(_FEW_PIXELS, rows * columns) and layer.groups == 1:
        return _Dense(layer, shape)
    if height * width == 1 and layer.groups == layer.in_channels == layer.out_channels:
        taps = list(_taps(layer, (1, 1)))
        return _Scale(layer, shape, taps[0]) if len(taps) == 1 and _out_pixels(layer, (1, 1)) == (1, 1) else None
    pointwise = (layer.kernel_size, layer.padding, layer.groups) == ((1, 1), (0, 0), 1)
    return _Pointwise(layer, shape) if pointwise and height * width <= _MOST_PIXELS else None


def _out_pixels(layer: Any, size: tuple[int, int]) -> tuple[int, int]:
    geometry = zip(size, layer.padding, layer.dilation, layer.kernel_size, layer.stride, strict=True)
    height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in geometry)
    return height, width


def _taps(layer: Any, size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """(output pixel, input pixel, kernel row, kernel column) of all products that are not with padding."""
    height, width = _out_pixels(layer, size)
    (rows, columns), (down, right), (top, left), (step, stride) = (
        layer.kernel_size, layer.stride, layer.padding, layer.dilation,
    )  # fmt: skip
    for out in range(height * width):
        for row in range(rows):
            for column in range(columns):
                y = out // width * down - top + row * step
                x = out % width * right - left + column * stride
                if 0 <= y < size[0] and 0 <= x < size[1]:
                    yield out, y * size[1] + x, row, column


class _Convolution:
    def __init__(self, layer: Any, shape: tuple[int, ...]) -> None:
        self.layer, self.shape = layer, shape
        self.forward = type(layer).forward

    def fits(self, x: Any) -> bool:
        """Whether `x` is what the shortcut was made for."""
        return tuple(x.shape[1:]) == self.shape


class _Dense(_Convolution):
    """A convolution on a few pixels as one matrix product over pixels and channels."""

    def __init__(self, layer: Any, shape: tuple[int, ...]) -> None:
        super().__init__(layer, shape)
        self.pixels = _out_pixels(layer, (shape[1], shape[2]))
        self.taps = list(_taps(layer, (shape[1], shape[2])))
        self.blocks: Any = None

    def prepare(self) -> None:
        weight, count = self.layer.weight.detach(), self.pixels[0] * self.pixels[1]
        size = self.shape[1] * self.shape[2]
        if count == size == len(self.taps) == 1:
            _, _, row, column = self.taps[0]
            self.matrix = weight[:, :, row, column]
        else:
            if self.blocks is None:
                self.blocks = weight.new_zeros(count, weight.shape[0], size, weight.shape[1])
            for out, source, row, column in self.taps:
                self.blocks[out, :, source].copy_(weight[:, :, row, column])
            self.matrix = self.blocks.reshape(count * weight.shape[0], size * weight.shape[1])
        self.bias = None if self.layer.bias is None else self.layer.bias.detach().repeat(count)

    def __call__(self, x: Any) -> Any:
        if not self.fits(x):
            return self.forward(self.layer, x)
        linear = torch_module().nn.functional.linear
        out = linear(x.permute(0, 2, 3, 1).reshape(-1, self.matrix.shape[1]), self.matrix, self.bias)
        return out.reshape(len(x), *self.pixels, self.layer.out_channels).permute(0, 3, 1, 2)


class _Pointwise(_Convolution):
    """A 1x1 convolution as a matrix product over channels."""

    def prepare(self) -> None:
        pass

    def __call__(self, x: Any) -> Any:
        if not self.fits(x):
            return self.forward(self.layer, x)
        down, right = self.layer.stride
        pixels = x.permute(0, 2, 3, 1)
        pixels = pixels if (down, right) == (1, 1) else pixels[:, ::down, ::right]
        linear = torch_module().nn.functional.linear
        return linear(pixels, self.layer.weight.flatten(1), self.layer.bias).permute(0, 3, 1, 2)


class _Scale(_Convolution):
    """A depthwise convolution on one pixel: a factor for each channel."""

    def __init__(self, layer: Any, shape: tuple[int, ...], tap: tuple[int, int, int, int]) -> None:
        super().__init__(layer, shape)
        self.tap = tap

    def prepare(self) -> None:
        _, _, row, column = self.tap
        self.factor = self.layer.weight.detach()[:, 0, row, column].reshape(-1, 1, 1).contiguous()

    def __call__(self, x: Any) -> Any:
        if not self.fits(x):
            return self.forward(self.layer, x)
        bias = self.layer.bias
        return x * self.factor if bias is None else torch_module().addcmul(bias.reshape(-1, 1, 1), x, self.factor)


def _window(layer: Any, shape: tuple[int, ...]) -> Shortcut | None:
    if len(shape) != 3 or shape[0] > layer.window_size[0] or shape[1] > layer.window_size[1]:
        return None
    return _Window(layer, shape)


class _Window:
    """Attention in one window (SwinV2, cosine attention) without computing with its padding.

    Padding is zeros before the linear map, whose key bias SwinV2 leaves out: its keys are zero, so its logits are the
    relative position bias alone, and its values are the value bias. All of it is therefore one more key, whose logit is
    the logarithm of the sum of theirs.
    """

    def __init__(self, layer: Any, shape: tuple[int, ...]) -> None:
        self.layer, self.shape = layer, shape
        self.forward = type(layer).forward
        height, width = layer.window_size
        self.real = [y * width + x for y in range(shape[0]) for x in range(shape[1])]
        self.padding = sorted(set(range(height * width)) - set(self.real))

    def prepare(self) -> None:
        torch = torch_module()
        with torch.no_grad():
            bias = self.layer.get_relative_position_bias()[:, :, self.real]
            self.bias = bias[..., self.real]
            padding = bias[..., self.padding]
            self.extra = torch.logsumexp(padding, -1, keepdim=True) if self.padding else padding
            self.scale = torch.clamp(self.layer.logit_scale, max=4.605170185988092).exp()  # log(100)
            self.qkv_bias = None
            self.value = 0.0
            if self.layer.qkv.bias is not None:
                self.qkv_bias = self.layer.qkv.bias.detach().clone()
                third = len(self.qkv_bias) // 3
                self.qkv_bias[third : 2 * third] = 0.0
                self.value = self.qkv_bias[2 * third :].reshape(1, self.layer.num_heads, 1, -1)

    def __call__(self, x: Any) -> Any:
        if tuple(x.shape[1:]) != self.shape or self.layer.training:
            return self.forward(self.layer, x)
        torch = torch_module()
        functional, heads, (count, *_, size) = torch.nn.functional, self.layer.num_heads, x.shape
        qkv = functional.linear(x.reshape(count, -1, size), self.layer.qkv.weight, self.qkv_bias)
        q, k, v = qkv.reshape(count, -1, 3, heads, size // heads).permute(2, 0, 3, 1, 4)
        logits = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
        logits = logits * self.scale + self.bias
        tokens = len(self.real)
        if self.padding:
            logits = torch.cat([logits, self.extra.expand(count, -1, -1, -1)], -1)
        attention = functional.softmax(logits, dim=-1)
        out = attention[..., :tokens] @ v
        if self.padding:
            out = out + attention[..., tokens:] * self.value
        out = out.transpose(1, 2).reshape(count, tokens, size)
        return self.layer.proj(out).reshape(x.shape)
