"""How weights become a model that can be judged: a network, data and a metric, by name."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from flstore.workloads._data import is_file
from flstore.workloads._scores import check_precision, check_task


@dataclass(frozen=True)
class Task:
    """A model, data to evaluate it on, and a metric. Names only: whoever evaluates resolves them, nothing is pickled.

    Attributes
    ----------
    model : str
        Import path, "package.module:factory", of a function that returns a ``torch.nn.Module``. Its ``state_dict`` has
        the names of the stored tensors.
    data : str
        Import path of a function that returns (x, y); or the path or URL of a file that ends in .npz or .safetensors
        with the arrays x and y. A relative path is made absolute.
    metric : str
        "accuracy"; "loss" (the mean cross entropy, its sign turned); or the import path of a function that takes
        (outputs, y). Higher is better.
    precision : {"float32", "bfloat16"}, optional
        In which models are evaluated; default that of the model, exactly. bfloat16 is an approximation that takes half
        the time or less where the processor has it, and changes answers: of 360 digits, 98.9 to 99.4 % were told as in
        float32, and accuracy moved by up to 0.8 points.

    Raises
    ------
    InvalidParameterError
        Something else.

    Examples
    --------
    >>> Task("mytask.net:build", "mytask.data:held_out").fill(["model", "k"], {"k": 3})
    {'model': 'mytask.net:build', 'k': 3}
    """

    model: str
    data: str
    metric: str = "accuracy"
    precision: str | None = None

    def __post_init__(self) -> None:
        check_task("task", self.model, self.data, self.metric)
        check_precision("task", self.precision)
        if is_file(self.data) and "://" not in self.data:
            object.__setattr__(self, "data", os.path.abspath(os.path.expanduser(self.data)))

    def fill(self, fields: Collection[str], params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters of a workload with these `fields`, with those of the task that were not given."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        wanted = {name: value for name, value in own.items() if name in fields and params.get(name) is None}
        return {**wanted, **{name: value for name, value in params.items() if name not in wanted}}
