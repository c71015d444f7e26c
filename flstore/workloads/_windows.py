"""Attention of Swin in one window, without what it computes with padding."""

from __future__ import annotations

import sys
from typing import Any

from flstore.workloads._layers import Get, Shortcut
from flstore.workloads._onednn import linear
from flstore.workloads._stages import torch_module

_MANY_TOKENS = 32
"""From here on the fused attention of torch is faster than its steps."""


def window(layer: Any, shape: tuple[int, ...]) -> Shortcut | None:
    """A shortcut for the attention of SwinV2 where one padded feature map fills one window; None for anything else."""
    swin = sys.modules.get("torchvision.models.swin_transformer")
    if swin is None or type(layer) is not swin.ShiftedWindowAttentionV2 or len(shape) != 3:
        return None
    small = shape[0] <= layer.window_size[0] and shape[1] <= layer.window_size[1]
    return _Window(layer, shape) if small else None


class _Window(Shortcut):
    """Attention in one window (SwinV2, cosine attention).

    Padding is zeros before the linear map, whose key bias SwinV2 leaves out: its keys are zero, so its logits are the
    relative position bias alone, and its values are the value bias. All of it is therefore one more key, whose logit is
    the logarithm of the sum of theirs. What depends on weights only is computed once for all examples.
    """

    own = ("qkv.weight", "qkv.bias", "proj.weight", "proj.bias")

    def __init__(self, layer: Any, shape: tuple[int, ...]) -> None:
        super().__init__(layer, shape)
        height, width = layer.window_size
        self.real = [y * width + x for y in range(shape[0]) for x in range(shape[1])]
        self.padding = sorted(set(range(height * width)) - set(self.real))

    def prepare(self, get: Get) -> None:
        torch = torch_module()
        with torch.no_grad():
            bias = self.layer.get_relative_position_bias()[:, :, self.real]
            self.bias = bias[..., self.real]
            if self.padding:
                self.bias = torch.cat([self.bias, torch.logsumexp(bias[..., self.padding], -1, keepdim=True)], -1)
            self.scale = torch.clamp(self.layer.logit_scale, max=4.605170185988092).exp()[:, 0]  # log(100)
        self.weight, self.qkv_bias = get("qkv.weight"), get("qkv.bias")
        self.value: Any = None
        if self.qkv_bias is not None:
            self.qkv_bias = self.qkv_bias.clone()
            third = len(self.qkv_bias) // 3
            self.qkv_bias[third : 2 * third] = 0.0
            self.value = self.qkv_bias[2 * third :].reshape(1, self.layer.num_heads, 1, -1)
        self.proj, self.proj_bias = get("proj.weight"), get("proj.bias")

    def release(self) -> None:
        super().release()
        self.weight = self.proj = self.proj_bias = None

    def short(self, x: Any) -> Any:
        torch, heads = torch_module(), self.layer.num_heads
        (count, *_, size), tokens = x.shape, len(self.real)
        qkv = linear(x.reshape(count * tokens, size), self.weight, self.qkv_bias)
        qkv = qkv.view(count, tokens, 3, heads, size // heads)
        directions = qkv[:, :, :2]
        factors = torch.linalg.vector_norm(directions, dim=-1, keepdim=True).clamp_min_(1e-12).reciprocal_()
        factors[:, :, 0] *= self.scale
        q, k = (directions * factors).permute(2, 0, 3, 1, 4)
        v = qkv[:, :, 2].transpose(1, 2)
        if self.padding:
            k = torch.cat([k, k.new_zeros(1).expand(count, heads, 1, k.shape[-1])], 2)
            value = v.new_zeros(1) if self.value is None else self.value
            v = torch.cat([v, value.expand(count, heads, 1, v.shape[-1])], 2)
        if tokens >= _MANY_TOKENS:
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias, scale=1.0)
        else:
            out = torch.softmax((q @ k.transpose(-2, -1)).add_(self.bias), -1) @ v
        return linear(out.transpose(1, 2).reshape(-1, size), self.proj, self.proj_bias).view(x.shape)
