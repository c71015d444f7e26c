"""Llama 3.2 1B, the paper's large model (section 5.4): its architecture, weights for it, and generation as inference.

Its architecture comes from the package transformers (the extra ``llm``); nothing is downloaded. As a task of
``inference`` its data are token ids, with -1 where the model shall go on by itself::

    store.ingest(1, {}, aggregate=llama.weights(llama.LLAMA_1B))
    store.request("inference", round=1, model="flstore.federated.llama:llama_1b", data="prompts.npz").value.outputs
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidParameterError, OptionalDependencyError
from flstore.federated.models import torch_module, torchvision_module

if TYPE_CHECKING:
    from torch import Tensor

FREE = -1
"""Stands in the data for a token that the model shall find."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """The sizes of a Llama model; all else is as in Llama 3.2 (tied embeddings, theta 500,000, bfloat16).

    Examples
    --------
    >>> f"{LLAMA_1B.parameters:,}"
    '1,235,814,400'
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    key_value_heads: int
    inner_width: int

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names and shapes of its tensors, by the names that published weights have."""
        narrow = self.width // self.heads * self.key_value_heads
        yield "model.embed_tokens.weight", (self.vocabulary, self.width)
        for i in range(self.layers):
            for name, rows, columns in (
                ("self_attn.q_proj", self.width, self.width),
                ("self_attn.k_proj", narrow, self.width),
                ("self_attn.v_proj", narrow, self.width),
                ("self_attn.o_proj", self.width, self.width),
                ("mlp.gate_proj", self.inner_width, self.width),
                ("mlp.up_proj", self.inner_width, self.width),
                ("mlp.down_proj", self.width, self.inner_width),
            ):
                yield f"model.layers.{i}.{name}.weight", (rows, columns)
            for name in ("input_layernorm", "post_attention_layernorm"):
                yield f"model.layers.{i}.{name}.weight", (self.width,)
        yield "model.norm.weight", (self.width,)

    @property
    def parameters(self) -> int:
        """How many numbers its weights are."""
        return sum(int(np.prod(shape)) for _, shape in self.shapes())


LLAMA_1B = Architecture(128_256, 2048, 16, 32, 8, 8192)
CUT = Architecture(8_016, 2048, 1, 32, 8, 8192)
"""One layer as wide as the sixteen of Llama 3.2 1B, and a sixteenth of its vocabulary: 0.15 GB."""
TINY = Architecture(512, 64, 2, 4, 2, 128)
"""The same in small, to try things out."""


def llama_1b() -> Any:
    """A ``torch.nn.Module`` for ``model=``: Llama 3.2 1B, to be given its weights."""
    return build(LLAMA_1B)


def cut() -> Any:
    """One as wide, with a single layer."""
    return build(CUT)


def tiny() -> Any:
    """A small one."""
    return build(TINY)


def build(architecture: Architecture) -> Any:
    """A module that goes on with rows of token ids: each takes the likeliest token, all rows at once.

    Its input has shape (n, t): a prompt, then :data:`FREE` for each token to find, as many in each row. Its output has
    shape (n, tokens found), int64.

    Raises
    ------
    OptionalDependencyError
        torch or transformers is not installed.
    """
    torch, transformers = torch_module(), transformers_module()
    config = transformers.LlamaConfig(
        vocab_size=architecture.vocabulary,
        hidden_size=architecture.width,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.key_value_heads,
        intermediate_size=architecture.inner_width,
        max_position_embeddings=131_072,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
        },
    )  # fmt: skip

    class Generator(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = transformers.LlamaModel(config).to(torch.bfloat16)
            with torch.device("cpu"):  # of what is no weight, and in no state_dict, a module without memory has none
                self.model.rotary_emb = type(self.model.rotary_emb)(config)

        def forward(self, tokens: Tensor) -> Tensor:
            prompts, count = _prompts(tokens)
            head, past, found = self.model.embed_tokens.weight, transformers.DynamicCache(config=config), []
            for _ in range(count):
                state = self.model(input_ids=prompts, past_key_values=past, use_cache=True).last_hidden_state[:, -1]
                prompts = torch.nn.functional.linear(state, head).argmax(dim=-1, keepdim=True)
                found.append(prompts)
            return torch.cat(found, dim=1)

    return Generator()


def _prompts(tokens: Tensor) -> tuple[Tensor, int]:
    """The prompts, and how many tokens each shall be followed by."""
    known = tokens != FREE
    length = int(known[0].sum()) if tokens.ndim == 2 else 0
    whole = known[:, :length].all() and not known[:, length:].any() if length else False
    if not whole or length == tokens.shape[1]:
        raise InvalidParameterError(
            f"the data of a Llama model are rows of token ids: a prompt, then {FREE} for each token to find, as many "
            f"of each in every row; got shape {list(tokens.shape)}"
        )
    return tokens[:, :length], tokens.shape[1] - length


def prompts(clients: int, tokens: int, new_tokens: int, vocabulary: int, seed: int = 0) -> NDArray[np.int64]:
    """A random prompt of each client, and room for what follows it: the x of a task, shape (clients, both)."""
    rng = np.random.default_rng(seed)
    given = rng.integers(0, vocabulary, (clients, tokens))
    return np.concatenate([given, np.full((clients, new_tokens), FREE)], axis=1)


def weights(architecture: Architecture, path: str | os.PathLike[str] | None = None, seed: int = 0) -> dict[str, Any]:
    """Weights by name, bfloat16 torch tensors: random ones, or those in the safetensors files of a folder.

    Random ones answer nonsense, as fast as real ones.

    Parameters
    ----------
    architecture : Architecture
        What they must fit.
    path : path, optional
        A .safetensors file, or a folder of them, as published weights come.
    seed : int
        Of random ones.

    Raises
    ------
    InvalidParameterError
        The files lack a tensor or have one of another shape.
    OptionalDependencyError
        torch is not installed.
    """
    torch = torch_module()
    if path is not None:
        return _read(architecture, Path(path))
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in architecture.shapes():
        if "norm" in name:
            made[name] = torch.ones(shape, dtype=torch.bfloat16)
        else:
            made[name] = torch.empty(shape, dtype=torch.bfloat16).normal_(0.0, 0.02, generator=generator)
    return made


def _read(architecture: Architecture, path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    torch, found = torch_module(), dict[str, Any]()
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        found |= load_file(file)
    expected = dict(architecture.shapes())
    for name, shape in expected.items():
        there = list(found[name].shape) if name in found else "no such tensor"
        if there != list(shape):
            raise InvalidParameterError(
                f"{path} has no weights of this model: {name} has shape {shape}, found: {there}"
            )
    return {name: found[name].to(torch.bfloat16) for name in expected}  # lm_head.weight, if there, is the embedding


def transformers_module() -> Any:
    with contextlib.suppress(OptionalDependencyError):
        torchvision_module()  # transformers imports it where it is installed, and cannot where its operators do not fit
    try:
        import transformers

        return transformers
    except ImportError as error:
        raise OptionalDependencyError.of("transformers", "llm", "A Llama model") from error
