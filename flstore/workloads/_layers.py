"""The same layers with less work: weights where they lie, batch normalisation in the weights before it, few pixels.

On one pixel a 3x3 convolution is its centre tap, on 2x2 pixels a dense layer; a 1x1 convolution is a matrix product. In
evaluation mode batch normalisation is a factor and a sum for each channel, which the convolution before it can have in
its weights. Results are those of the layers as they are, but for float32 rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from flstore.workloads._onednn import activate, activations, linear, onednn
from flstore.workloads._stages import torch_module

Get: TypeAlias = Callable[[str], Any]
"""A weight of a layer by its name there, or None where it has none."""
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_FEW_PIXELS = 4
"""Up to here a dense layer multiplies no more than the convolution does, and its matrix is made in no time."""
_MOST_PIXELS = 256
"""Beyond, a convolution is as fast as a matrix product."""


def shortcut(layer: Any, shape: tuple[int, ...]) -> Shortcut | None:
    """A cheaper way for a layer that sees examples of this shape; None where none is known, as for subclasses."""
    nn = torch_module().nn
    if type(layer) is nn.Conv2d:
        return _convolution(layer, shape)
    if type(layer) is nn.Linear:
        return _Linear(layer, shape)
    if type(layer) is nn.AdaptiveAvgPool2d and layer.output_size in (1, (1, 1)) and shape[1:] == (1, 1):
        return _Alone(layer, shape)
    return None


class Shortcut:
    """A cheaper ``forward`` of one layer, and of the normalisation and activation after it when it is `fused`."""

    own: tuple[str, ...] = ("weight", "bias")
    """Weights of the layer that it takes from where they lie; the layer does not get them."""

    def __init__(self, layer: Any, shape: tuple[int, ...]) -> None:
        self.layer, self.shape = layer, shape
        self.norm: Any = None
        self.act: Any = None
        self.fused = False

    def take(self, get: Get, get_norm: Get, fused: bool) -> None:
        """Take over new weights, of the layer and of its normalisation."""
        self.get, self.get_norm, self.fused = get, get_norm, fused
        self.after = activations()[type(self.act)] if fused and self.act is not None else ""
        self.prepare(get)

    def prepare(self, get: Get) -> None:
        """Compute what depends on weights only."""

    def release(self) -> None:
        """Let go of the weights."""
        self.get = self.get_norm = _nothing
        self.bias: Any = None

    def fits(self, x: Any) -> bool:
        """Whether `x` is what the shortcut was made for."""
        return tuple(x.shape[1:]) == self.shape

    def otherwise(self, x: Any) -> Any:
        """What the layers as they are give."""
        following = (self.norm, self.act) if self.fused else (None, None)
        for layer, parts, get in ((self.layer, self.own, self.get), (following[0], NORM, self.get_norm)):
            for part in parts if layer is not None else ():
                weight = functools.reduce(getattr, part.split("."), layer)
                if weight is not None:
                    weight.copy_(get(part))
        for layer in (self.layer, *following):
            x = x if layer is None else type(layer).forward(layer, x)
        return x

    def __call__(self, x: Any) -> Any:
        return self.short(x) if self.fits(x) else self.otherwise(x)

    def short(self, x: Any) -> Any:
        """The cheaper way."""
        raise NotImplementedError

    def folded(self, get: Get) -> tuple[Any, Any, Any]:
        """Weight, factor of each output channel (or None) and bias (or None), with the normalisation when fused."""
        torch, weight, bias = torch_module(), get("weight"), get("bias")
        if not self.fused or self.norm is None:
            return weight, None, bias
        gamma, beta, mean, variance = map(self.get_norm, NORM[:4])
        factor = torch.rsqrt(variance + self.norm.eps)
        factor = factor if gamma is None else factor.mul_(gamma)
        shift = mean.neg() if bias is None else bias - mean
        return weight, factor, shift.mul_(factor) if beta is None else torch.addcmul(beta, shift, factor)


def _nothing(name: str) -> None:
    return None


def fusible(layer: Any, following: Any) -> tuple[Any, Any]:
    """What follows a layer, if it can be computed with it: as a normalisation, as an activation, or as neither."""
    nn = torch_module().nn
    if type(following) is nn.BatchNorm2d and following.running_mean is not None and type(layer) is nn.Conv2d:
        return following, None
    known = type(following) in activations() and getattr(following, "approximate", "none") == "none"
    return None, following if known else None


def numbers(size: Any) -> int:
    """How many numbers an array of this shape has."""
    return int(functools.reduce(lambda a, b: a * b, size, 1))


def _convolution(layer: Any, shape: tuple[int, ...]) -> Shortcut | None:
    if len(shape) != 3 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return None
    (height, width), (rows, columns) = shape[1:], layer.kernel_size
    if height * width <= min(_FEW_PIXELS, rows * columns) and layer.groups == 1:
        return _Dense(layer, shape)
    if height * width == 1 and layer.groups == layer.in_channels == layer.out_channels:
        taps = list(_taps(layer, (1, 1)))
        if len(taps) == 1 and _out_pixels(layer, (1, 1)) == (1, 1):
            return _Scale(layer, shape, taps[0])
    pointwise = (layer.kernel_size, layer.padding, layer.groups) == ((1, 1), (0, 0), 1)
    return _Pointwise(layer, shape) if pointwise and height * width <= _MOST_PIXELS else _General(layer, shape)


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


class _General(Shortcut):
    """A convolution as it is, with what follows it."""

    buffer: Any = None

    def prepare(self, get: Get) -> None:
        weight, factor, self.bias = self.folded(get)
        if self.buffer is None:
            torch = torch_module()
            self.buffer = torch.empty_like(weight, dtype=self.layer.weight.dtype, memory_format=torch.channels_last)
        scaled(weight, factor, self.buffer)

    def short(self, x: Any) -> Any:
        layer, operations = self.layer, onednn(x, self.after) if self.after else None
        if operations is not None:
            geometry = layer.padding, layer.stride, layer.dilation, layer.groups
            return operations._convolution_pointwise(x, self.buffer, self.bias, *geometry, self.after, [], "none")
        conv2d = torch_module().nn.functional.conv2d
        out = conv2d(x, self.buffer, self.bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        return activate(out, self.after)


def scaled(weight: Any, factor: Any, out: Any) -> Any:
    """Copy a weight, times a factor for each output channel; returns `out`."""
    if factor is None:
        return out.copy_(weight)
    return torch_module().mul(weight, factor.reshape(-1, *[1] * (weight.ndim - 1)), out=out)


class _Dense(Shortcut):
    """A convolution on a few pixels as one matrix product over pixels and channels."""

    def __init__(self, layer: Any, shape: tuple[int, ...]) -> None:
        super().__init__(layer, shape)
        self.pixels = _out_pixels(layer, (shape[1], shape[2]))
        self.taps = list(_taps(layer, (shape[1], shape[2])))
        self.blocks: Any = None

    def prepare(self, get: Get) -> None:
        weight, factor, bias = self.folded(get)
        count, size = numbers(self.pixels), self.shape[1] * self.shape[2]
        if self.blocks is None:
            own = self.layer.weight
            self.blocks = own.new_zeros(count, own.shape[0], size, own.shape[1])
        for out, source, row, column in self.taps:
            scaled(weight[:, :, row, column], factor, self.blocks[out, :, source])
        self.matrix = self.blocks.view(count * weight.shape[0], size * weight.shape[1])
        self.bias = None if bias is None else bias.repeat(count)

    def short(self, x: Any) -> Any:
        flat = x.permute(0, 2, 3, 1).reshape(-1, self.matrix.shape[1])
        out = linear(flat, self.matrix, self.bias, self.after)
        return out.view(len(x), *self.pixels, self.layer.out_channels).permute(0, 3, 1, 2)


class _Pointwise(Shortcut):
    """A 1x1 convolution as a matrix product over channels."""

    buffer: Any = None

    def prepare(self, get: Get) -> None:
        weight, factor, self.bias = self.folded(get)
        weight = weight.flatten(1)
        if factor is not None:
            if self.buffer is None:
                self.buffer = torch_module().empty_like(weight, dtype=self.layer.weight.dtype)
            weight = scaled(weight, factor, self.buffer)
        self.matrix = weight

    def release(self) -> None:
        super().release()
        self.matrix = None

    def short(self, x: Any) -> Any:
        down, right = self.layer.stride
        pixels = x.permute(0, 2, 3, 1)
        pixels = pixels if (down, right) == (1, 1) else pixels[:, ::down, ::right]
        out = linear(pixels.reshape(-1, pixels.shape[-1]), self.matrix, self.bias, self.after)
        return out.view(*pixels.shape[:-1], -1).permute(0, 3, 1, 2)


class _Scale(Shortcut):
    """A depthwise convolution on one pixel: a factor for each channel."""

    def __init__(self, layer: Any, shape: tuple[int, ...], tap: tuple[int, int, int, int]) -> None:
        super().__init__(layer, shape)
        self.tap = tap

    def prepare(self, get: Get) -> None:
        weight, factor, bias = self.folded(get)
        taps = weight[:, 0, self.tap[2], self.tap[3]]
        self.factor = (taps if factor is None else taps * factor).reshape(-1, 1, 1).contiguous()
        self.bias = None if bias is None else bias.reshape(-1, 1, 1)

    def short(self, x: Any) -> Any:
        out = x * self.factor if self.bias is None else torch_module().addcmul(self.bias, x, self.factor)
        return activate(out, self.after)


class _Linear(Shortcut):
    """A linear layer with the weights where they lie."""

    def prepare(self, get: Get) -> None:
        self.matrix, self.bias = get("weight"), get("bias")

    def release(self) -> None:
        super().release()
        self.matrix = None

    def fits(self, x: Any) -> bool:
        return x.ndim > 1 and x.shape[-1] == self.layer.in_features

    def short(self, x: Any) -> Any:
        out = linear(x.reshape(-1, x.shape[-1]), self.matrix, self.bias, self.after)
        return out.view(*x.shape[:-1], -1)


class _Alone(Shortcut):
    """The mean over one pixel."""

    own = ()

    def short(self, x: Any) -> Any:
        return x.clone()  # what comes next may change it in place
