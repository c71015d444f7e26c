"""One model in memory into which weights are put, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError
from flstore.workloads._shortcuts import Shortcuts
from flstore.workloads._stages import as_tensor, check_names, dtype_name, torch_module

_RELATIVE, _ABSOLUTE = 1e-3, 1e-4
"""How far shortcuts may be from the model as it is, the latter in units of its largest output."""
_BRIEF = 0.15
"""Both, in bfloat16: what the rounding of a Swin comes to. A weight that was not taken over would be NaN."""


class Model:
    """A module in evaluation mode, and its shortcuts where it has some that give the same.

    Parameters
    ----------
    module : torch.nn.Module
    what, data : str
        Model and data in words, for messages.
    """

    def __init__(self, module: Any, what: str, data: str) -> None:
        self.module, self.what, self.data = module, what, data
        self.short: Shortcuts | None = None
        self.largest_bytes = 1
        """The largest output of a layer, for one example, where it is known."""
        self._tried: Mapping[str, Any] = {}
        self.by_row = True
        """Whether each example is judged by itself, so that batches may be as large as one likes."""
        self._memory: Mapping[str, Any] | None = None
        self._shapes = {name: getattr(tensor, "shape", None) for name, tensor in module.state_dict().items()}

    def load(self, tensors: Mapping[str, NDArray[Any]], fused: bool = True) -> None:
        """Put weights into it; they must stay as they are until :meth:`release`."""
        key = getattr(tensors, "key", None)
        what = self.what if key is None else f"{self.what}, for the {key},"
        check_names(what, self._shapes, tensors)
        self.put({name: as_tensor(_known(array)) for name, array in tensors.items()}, fused, what)

    def put(self, source: Mapping[str, Any], fused: bool = True, what: str = "") -> None:
        """The same from tensors of torch."""
        own = self.short.own(fused) if self.short else set()
        if any(source[name].shape != self._shapes[name] for name in own):
            own = set()  # let torch say what does not fit
        rest = {name: tensor for name, tensor in source.items() if name not in own}
        try:
            if rest and not self._copied(rest):
                self.module.load_state_dict(rest, strict=not own)
        except (RuntimeError, TypeError) as error:
            raise InvalidParameterError(f"{what} does not fit what is stored: {error}") from error
        if self.short:
            self.short.prepare(source, fused)

    def _copied(self, source: Mapping[str, Any]) -> bool:
        """Copy weights as ``load_state_dict`` would, whose rules for old formats take longer than most copies."""
        if self._memory is None:
            self._memory = self.module.state_dict() if _plain(self.module) else {}
        if any(name not in self._memory or self._memory[name].shape != t.shape for name, t in source.items()):
            return False
        for name, tensor in source.items():
            self._memory[name].copy_(tensor)
        return True

    def release(self) -> None:
        """Let go of the weights, which may be dropped now."""
        if self.short:
            self.short.release()

    def tensors(self) -> list[Any]:
        """What it keeps."""
        state = [tensor for tensor in self.module.state_dict().values() if hasattr(tensor, "data_ptr")]
        return state + (self.short.tensors() if self.short else [])

    @contextmanager
    def loaded(self, tensors: Mapping[str, NDArray[Any]], fused: bool = True) -> Iterator[Model]:
        """With these weights."""
        try:
            self.load(tensors, fused)
            yield self
        finally:
            self.release()

    def forward(self, x: Any) -> NDArray[Any]:
        """What it gives for a batch; raises InvalidParameterError unless that is one row an example."""
        torch = torch_module()
        try:
            outputs = self.module(x)
        except Exception as error:
            raise InvalidParameterError(
                f"{self.what} cannot take the data of {self.data}, shape {list(x.shape)} of {x.dtype}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(outputs, torch.Tensor) or outputs.ndim == 0 or len(outputs) != len(x):
            given = list(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
            raise InvalidParameterError(f"{self.what} gives {given} for {len(x)} examples, not one row for each")
        values: NDArray[Any] = (outputs.float() if outputs.dtype is torch.bfloat16 else outputs).numpy()
        return values

    def specialise(self, x: Any, running: Callable[[], Any]) -> Any:
        """Take the shortcuts and the memory format that give what the model gives as it is, where they do.

        They are tried with other weights than the module has, so that one that took an old weight would show.

        Parameters
        ----------
        x : torch.Tensor
            A few examples.
        running : callable
            A context in which models run.

        Returns
        -------
        torch.memory_format or None
            That of the images it takes from now on; None when it stays as it is.
        """
        torch = torch_module()
        with running():
            before = {name: t.clone() if hasattr(t, "clone") else t for name, t in self.module.state_dict().items()}
            trial, expected = self._expected(before, x)
            pieces = [self.forward(x[at : at + 1]) for at in range(len(x))]
            self.by_row = _close(np.concatenate(pieces), expected, trial)
            self.module.load_state_dict(before)
            try:
                self.short = Shortcuts(self.module, x)
                self.largest_bytes = self.short.largest_bytes
                self.short.spoil()
            except Exception:  # it does something that cannot be watched
                self.short = None
                return None
        layout = torch.channels_last if x.ndim == 4 else torch.contiguous_format
        self._memory = None
        self.module.to(memory_format=layout)  # outside of inference mode, where parameters cannot get new memory
        with running():
            if self.gives(trial, x.contiguous(memory_format=layout), expected):
                self._tried = trial
                return layout
        self.short.revert()
        self.short = self._memory = None
        self.module.to(memory_format=torch.contiguous_format)
        return None

    def _expected(self, state: Mapping[str, Any], x: Any) -> tuple[Mapping[str, Any], NDArray[Any]]:
        other = _noisy(state)
        self.module.load_state_dict(other)
        expected = self.forward(x)
        if np.isfinite(expected).all():
            return other, expected
        self.module.load_state_dict(state)
        return state, self.forward(x)

    def gives(self, weights: Mapping[str, Any], x: Any, expected: NDArray[Any]) -> bool:
        """Whether it gives what is expected, but for rounding."""
        try:
            self.put(weights)
            found = self.forward(x)
        except Exception:  # views of tensors that must be contiguous, say
            return False
        finally:
            self.release()
        return _close(found, expected, weights)

    def twin(self, x: Any) -> Model | None:
        """Another one, for another thread; None where a copy is not sure to be apart from this one.

        `x` are a few examples, in the layout that it takes.
        """
        weights, self._tried = self._tried, {}
        if self.short is None or any(m._forward_hooks or m._forward_pre_hooks for m in self.module.modules()):
            return None
        try:
            short = self.short.twin()
            other = Model(short.model, self.what, self.data)
            other.short = short
            self.put(weights)
            expected = self.forward(x)
            self.put(_noisy(weights))  # what the copy shares with this one would show
            return other if other.gives(weights, x, expected) else None
        except Exception:
            return None
        finally:
            self.release()


def _close(found: NDArray[Any], expected: NDArray[Any], weights: Mapping[str, Any]) -> bool:
    """Whether outputs are as expected, as far as the dtype of the weights can tell."""
    brief = any(getattr(tensor, "dtype", None) is torch_module().bfloat16 for tensor in weights.values())
    relative, absolute = (_BRIEF, _BRIEF) if brief else (_RELATIVE, _ABSOLUTE)
    if found.shape != expected.shape or not np.isfinite(expected).all():
        return False
    return bool(np.allclose(found, expected, rtol=relative, atol=absolute * float(np.abs(expected).max(initial=0.0))))


def _noisy(state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights near others, none of them equal, the positive ones positive."""
    torch = torch_module()
    random = torch.Generator().manual_seed(0)
    found = {}
    for name, tensor in state.items():
        found[name] = tensor
        if hasattr(tensor, "is_floating_point") and tensor.is_floating_point():
            factor, more = (torch.rand(tensor.shape, generator=random) for _ in range(2))
            found[name] = (tensor.float() * (0.9 + 0.2 * factor) + 0.02 * more).to(tensor.dtype)
    return found


def _plain(module: Any) -> bool:
    """Whether loading weights means to copy them, and nothing else."""
    nn = torch_module().nn
    known = {nn.Module._load_from_state_dict, nn.BatchNorm2d._load_from_state_dict}
    return type(module).load_state_dict is nn.Module.load_state_dict and all(
        type(m)._load_from_state_dict in known
        and type(m).state_dict is nn.Module.state_dict
        and type(m).get_extra_state is nn.Module.get_extra_state
        and not (m._load_state_dict_pre_hooks or m._load_state_dict_post_hooks)
        and not (m._state_dict_pre_hooks or m._state_dict_hooks)
        for m in module.modules()
    )


def _known(array: NDArray[Any]) -> NDArray[Any]:
    """Of a dtype that torch can take from NumPy; bfloat16 it can, by a way of ours."""
    return array.astype(np.float32) if dtype_name(array.dtype).startswith("float8") else array
