"""Shortcuts of a model: its layers with less work, for the shapes that one forward pass showed."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from flstore.workloads._layers import NORM, Get, Shortcut, fusible, shortcut
from flstore.workloads._trace import trace
from flstore.workloads._windows import window


class Shortcuts:
    """Layers of a kind, or on a shape, that is not known stay as they are. Those of subclasses do, too.

    Parameters
    ----------
    model : torch.nn.Module
        In evaluation mode. The ``forward`` of some of its layers is replaced.
    x : torch.Tensor
        A few examples; they go through the model once.
    """

    def __init__(self, model: Any, x: Any) -> None:
        self.model = model
        found = trace(model, x)
        self.largest_bytes = found.largest_bytes
        """The largest output of a layer, for one example."""
        self._all: list[tuple[Shortcut, dict[str, str], dict[str, str]]] = []
        self._followers: list[Any] = []
        names: dict[int, list[str]] = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            names.setdefault(id(tensor), []).append(name)
        for layer, shapes in found.shapes.items():
            if len(shapes) == 1 and _untouched(layer) and not layer._forward_pre_hooks:
                (shape,) = shapes
                made = shortcut(layer, shape) or window(layer, shape)
                if made is not None:
                    self._fuse(made, found.follower)
                    self._add(made, names)

    def _add(self, made: Shortcut, names: Mapping[int, list[str]]) -> None:
        made.layer.forward = made
        norm = () if made.norm is None else NORM
        self._all.append((made, _names(made.layer, made.own, names), _names(made.norm, norm, names)))

    def _fuse(self, made: Shortcut, follower: Mapping[Any, Any]) -> None:
        if made.own != ("weight", "bias") or not _unhooked(made.layer):
            return
        first = follower.get(made.layer)
        norm, act = fusible(made.layer, first)
        if norm is not None and _unhooked(norm) and _untouched(norm):
            act = fusible(made.layer, follower.get(norm))[1]
            made.norm = norm
            self._followers.append(norm)
        elif norm is not None:
            return
        if act is not None and _unhooked(act) and _untouched(act):
            made.act = act
            self._followers.append(act)

    def __len__(self) -> int:
        return len(self._all)

    def own(self, fused: bool = True) -> set[str]:
        """Names of tensors that the model need not be given: they are taken from where they lie."""
        mine = {name for _, names, _ in self._all for name in names.values()}
        return mine | {name for _, _, names in self._all for name in names.values()} if fused else mine

    def spoil(self) -> None:
        """Make what the model need not be given NaN, so that it shows if anybody reads it all the same."""
        state = self.model.state_dict(keep_vars=True)
        for name in self.own():
            if state[name].is_floating_point():
                state[name].fill_(float("nan"))

    def prepare(self, source: Mapping[str, Any] | None = None, fused: bool = True) -> None:
        """Take over new weights.

        Parameters
        ----------
        source : mapping of str to torch.Tensor, optional
            Where tensors of `own` lie. Default: the model has them.
        fused : bool
            Compute normalisations and activations with the layers before them. What these give is then no layer's own
            output: whoever looks at it says False.
        """
        for layer in self._followers:
            if fused:
                layer.forward = _same
            else:
                vars(layer).pop("forward", None)
        for made, names, of_norm in self._all:
            made.take(_getter(made.layer, names, source), _getter(made.norm, of_norm, source), fused)

    def tensors(self) -> list[Any]:
        """What is kept besides the model."""
        kept = (value for made, *_ in self._all for value in vars(made).values())
        return [value for value in kept if hasattr(value, "data_ptr")]

    def release(self) -> None:
        """Let go of the weights that were taken over."""
        for made, *_ in self._all:
            made.release()

    def revert(self) -> None:
        """Give every layer its own ``forward`` back."""
        for layer in (*(made.layer for made, *_ in self._all), *self._followers):
            vars(layer).pop("forward", None)
        self._all.clear()
        self._followers.clear()

    def twin(self) -> Shortcuts:
        """A copy with a model of its own; tensors that the models need not be given are shared."""
        self.release()
        state, own = self.model.state_dict(keep_vars=True), self.own(fused=False)
        return copy.deepcopy(self, {id(state[name]): state[name] for name in own})


def _names(layer: Any, parts: Sequence[str], names: Mapping[int, list[str]]) -> dict[str, str]:
    """Names in the whole model of parts of a layer; without what several layers share, which is loaded into them."""
    known = {part: names.get(id(functools.reduce(getattr, part.split("."), layer)), []) for part in parts}
    return {part: found[0] for part, found in known.items() if len(found) == 1}


def _getter(layer: Any, names: Mapping[str, str], source: Mapping[str, Any] | None) -> Get:
    def get(part: str) -> Any:
        tensor = functools.reduce(getattr, part.split("."), layer)
        if source is None or part not in names:
            return None if tensor is None else tensor.detach()
        return source[names[part]].to(tensor.dtype)

    return get


def _same(x: Any) -> Any:
    return x


def _untouched(layer: Any) -> bool:
    return "forward" not in vars(layer)


def _unhooked(layer: Any) -> bool:
    return not layer._forward_hooks and not layer._forward_pre_hooks
