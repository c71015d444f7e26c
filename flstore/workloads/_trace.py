"""What one forward pass shows of a model: the shapes that layers see, and who alone takes what a layer gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flstore.workloads._stages import torch_module


@dataclass
class Trace:
    """What was seen.

    Attributes
    ----------
    shapes : dict
        Shapes (of one example) of the only argument of each layer.
    calls : dict
        How often each layer was called.
    follower : dict
        By layer, the layer that alone took what it gave; nobody else saw that.
    largest_bytes : int
        The largest output of a layer, for one example.
    """

    shapes: dict[Any, set[tuple[int, ...]]] = field(default_factory=dict)
    calls: dict[Any, int] = field(default_factory=dict)
    follower: dict[Any, Any] = field(default_factory=dict)
    largest_bytes: int = 0


def trace(model: Any, x: Any) -> Trace:
    """Send a few examples through a model and watch its layers."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found, given, seen = Trace(), _Given(torch_module().Tensor), []

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given.used((args, kwargs))
            return op(*args, **(kwargs or {}))

    def look(layer: Any, args: Any, result: Any) -> None:
        seen.append(result)  # kept, so that no other tensor gets its id
        found.calls[layer] = found.calls.get(layer, 0) + 1
        if len(args) == 1 and hasattr(args[0], "shape"):
            found.shapes.setdefault(layer, set()).add(tuple(args[0].shape[1:]))
        if hasattr(result, "nbytes"):
            found.largest_bytes = max(found.largest_bytes, result.nbytes // len(x))
        if not any(layer.children()):
            given.passed(layer, args, result)

    hooks = [layer.register_forward_hook(look) for layer in model.modules()]
    try:
        with Watch():
            outputs = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    given.used(outputs)
    found.follower = {a: b for a, b in given.alone().items() if found.calls[a] == found.calls[b] == 1}
    return found


class _Given:
    """Tensors that layers gave, and who used them."""

    def __init__(self, tensor: type) -> None:
        self._tensor = tensor
        self._uses: dict[int, int] = {}
        self._by: dict[int, Any] = {}
        self._pairs: list[tuple[Any, Any, int, bool]] = []

    def used(self, values: Any) -> None:
        """Count the tensors in what an operation was called with."""
        if isinstance(values, self._tensor):
            self._uses[id(values)] = self._uses.get(id(values), 0) + 1
        elif isinstance(values, list | tuple):
            for value in values:
                self.used(value)
        elif isinstance(values, dict):
            self.used(list(values.values()))

    def passed(self, layer: Any, args: Any, result: Any) -> None:
        """Note that a layer has given `result` for `args`."""
        taken = id(args[0]) if len(args) == 1 else 0
        in_place = result is args[0] if args else False
        if taken in self._by and self._uses.get(taken) == 1:
            self._pairs.append((self._by[taken], layer, taken, in_place))
        if not in_place:
            self._uses[id(result)] = 0  # what had this id before is gone
        self._by[id(result)] = layer

    def alone(self) -> dict[Any, Any]:
        """By layer, the one that was alone in using what it gave."""
        return {a: b for a, b, taken, in_place in self._pairs if in_place or self._uses[taken] == 1}
