"""What one node answered in one round, in either of Flower's interfaces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flstore.federated.feeder import Tensors

NO_ANSWER = "no answer"
"""The error of a client that was asked and did not answer in time."""

_BFLOAT16 = (
    "a torch bfloat16 tensor cannot enter a Flower message: send tensor.float(), or an Array of the same bits, "
    "tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16), which is kept as bfloat16"
)


@dataclass(slots=True)
class Reply:
    """One node's answer.

    Attributes
    ----------
    node : str
        The framework's id of the process that answered.
    stated : str, optional
        Who it says it is.
    values : dict
        Scalars for its metadata.
    error : str
        Why there is no answer; empty for an answer.
    tensors : callable, optional
        Its model.
    size_bytes : int
        Bytes of the model as it was sent.
    """

    node: str
    stated: Any = None
    values: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    tensors: Tensors | None = None
    size_bytes: int = 0


def reason(text: str) -> str:
    """A client's error, with the way out where there is one that the client's framework does not tell."""
    return f"{text} ({_BFLOAT16})" if "bfloat16" in text.lower() else text
