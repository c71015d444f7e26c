"""Which client of a round is faulty: differential testing of their models, without labels or data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.codec import ClientUpdate
from flstore.display.table import Tabular
from flstore.errors import FLStoreError, InvalidParameterError
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads._activations import Bits, Counts, activations, common
from flstore.workloads._data import is_file
from flstore.workloads._evaluate import evaluator
from flstore.workloads._imports import check_path
from flstore.workloads._params import check_integer
from flstore.workloads._plot import start
from flstore.workloads._scores import HOW_TO_SET_A_TASK, check_task
from flstore.workloads._stages import Stages, as_tensor, torch_module
from flstore.workloads.base import Catalogue, Derivable, Inputs, Scope, require_round

FEWEST_TO_JUDGE = 3
"""Of two models that disagree, nobody can say which one is wrong."""
_TWENTIETH = 0.05
"""Of the median, the least spread between clients: where nearly all agree exactly, a few neurons are no outlier."""
Each = Callable[[Sequence[ClientUpdate], Callable[[Any], Any]], list[Any]]


@dataclass(frozen=True, eq=False, repr=False)
class DebuggingResult(Tabular):
    """Who is faulty, and how sure that is.

    Attributes
    ----------
    faulty : list of str
        Those in `nonfinite`, then the ones that most inputs blamed, in the order in which they were found.
    clients : list of str, length n
        Sorted; the order of what follows.
    votes : ndarray of int64, shape (n,)
        Inputs that blame each client, in the search in which it was found or else in the last one.
    agreement : ndarray of float64, shape (n,)
        Share of the neurons that all others activate together without this client, mean over the inputs, in that
        search; the higher, the odder the client. NaN for a client in `nonfinite`.
    inputs, neurons : int
        How many were looked at.
    nonfinite : list of str
        Clients whose model gives NaN or infinities.
    """

    faulty: list[str]
    clients: list[str]
    votes: NDArray[np.int64]
    agreement: NDArray[np.float64]
    inputs: int
    neurons: int
    nonfinite: list[str]

    def frame(self) -> Any:
        """One row a client, those with the most votes first."""
        import pandas as pd

        columns = {
            "faulty": [client in self.faulty for client in self.clients],
            "votes": self.votes,
            "agreement_without": self.agreement,
        }
        table = pd.DataFrame(columns, index=pd.Index(self.clients, name="client"))
        return table.sort_values(["faulty", "votes"], ascending=False, kind="stable")

    def plot(self, ax: Any = None) -> Any:
        """The votes against each client; returns the axes."""
        seaborn, ax = start(ax, "DebuggingResult.plot", (6.0, 3.5))
        table = self.frame().reset_index()
        seaborn.barplot(table, x="client", y="votes", hue="faulty", dodge=False, ax=ax)
        ax.axhline(self.inputs / 2, color="0.5", linestyle="--")
        ax.set(title=f"Differential testing, {self.inputs} inputs", ylabel="inputs that blame it")
        return ax


@dataclass(frozen=True)
class Debugging(Derivable):
    """Find faulty clients of a round by differential testing of their models (class P2), as FedDebug does.

    Random inputs go through the model of every client. An input blames the client without whom the others activate the
    most neurons together, if that stands out; who is blamed by more than half of the inputs is faulty. It needs no
    labels, and of the data its shape only.

    Parameters
    ----------
    model : str
        Import path of the model's factory (``store.task``).
    data : str, optional
        Of the task: inputs have its shape and dtype. They are standard normal, and integers uniform between the
        smallest and the largest of the data.
    shape : sequence of int, optional
        Of one input, in place of `data`.
    inputs : int
        How many to generate.
    faulty : int
        How many clients to look for, one after the other, each among those that are left. Clients in `nonfinite` count
        among them.
    threshold : float
        Above it a neuron is active.
    outlier : float
        How far from the other clients one must be for an input to blame it, in units of 1.4826 MAD; 3.5 is Iglewicz and
        Hoaglin's. With 0 each input blames somebody, as in FedDebug, also where nobody is faulty.
    layers : int, optional
        Look at the first so many layers with weights only; default all, as FedDebug. Where clients have different
        labels, the last layers of honest models differ most, and hide who is faulty.
    seed : int
        Of the inputs.

    Notes
    -----
    The paper has debugging under P3 in Table 1, under P2 in section 4.4; it reads all updates of one round. A neuron is
    an element of the output of a layer with weights. FedDebug counts intersections of sets for each client left out;
    here one count for each neuron says the same. Among fewer than three clients nobody is blamed.

    References
    ----------
    Gill, Anwar, Gulzar: FedDebug: Systematic Debugging for Federated Learning Applications. ICSE 2023, section 4.
    Khan et al.: FLStore. MLSys 2025, Table 1 and section 4.4.

    Examples
    --------
    >>> Debugging(model="mytask.net:build", shape=(3, 32, 32), faulty=2).inputs
    10

    With a store and a task: ``store.request("debugging", round=7).value.faulty``
    """

    name: ClassVar[str] = "debugging"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = DebuggingResult

    model: str | None = None
    data: str | None = None
    shape: Sequence[int] | None = None
    inputs: int = 10
    faulty: int = 1
    threshold: float = 0.0
    outlier: float = 3.5
    layers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (("inputs", self.inputs, 1), ("faulty", self.faulty, 1), ("seed", self.seed, 0)):
            check_integer(self.name, name, value, least)
        if self.layers is not None:
            check_integer(self.name, "layers", self.layers, 1)
        for name, number in (("threshold", self.threshold), ("outlier", self.outlier)):
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
                raise InvalidParameterError(f"{self.name}: {name} is a finite number, not {number!r}")
        if self.outlier < 0:
            raise InvalidParameterError(f"{self.name}: outlier={self.outlier} is out of range; it must be at least 0")
        if self.shape is None:
            check_task(self.name, self.model, self.data)
            return
        if self.model is None:
            raise InvalidParameterError(f"{self.name} needs 'model'; {HOW_TO_SET_A_TASK}")
        check_path(self.name, "model", self.model)
        if isinstance(self.shape, str) or not all(type(n) is int and n > 0 for n in self.shape):
            raise InvalidParameterError(
                f"{self.name}: shape is that of one input, such as (3, 32, 32), not {self.shape!r}"
            )
        object.__setattr__(self, "shape", tuple(self.shape))

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        round = require_round(self.name, scope)
        clients = catalogue.clients(round)
        if self.faulty > len(clients):
            raise InvalidParameterError(f"{self.name}: faulty={self.faulty}, but the round has {len(clients)} clients")
        return [Key(scope.job, Kind.UPDATE, round, client) for client in clients]

    def derivation(self, keys: Collection[Key]) -> str:
        # A file may change; what a function of data gives stays.
        return "" if self.shape is None and is_file(str(self.data)) else super().derivation(keys)

    def derive(self, inputs: Inputs) -> dict[str, Any]:
        result = self._tested(inputs)
        return {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}

    def finish(self, scope: Scope, total: Mapping[str, Any]) -> DebuggingResult:
        return DebuggingResult(**total)

    def _tested(self, inputs: Inputs) -> DebuggingResult:
        updates = inputs.updates(require_round(self.name, inputs.scope))
        clients = list(updates)
        bits, neurons, finite = self._bits(list(updates.values()))
        left = [i for i in range(len(clients)) if finite[i]]
        found: list[int] = [i for i in range(len(clients)) if not finite[i]]
        nonfinite = [clients[i] for i in found]
        votes = np.zeros(len(clients), dtype=np.int64)
        agreement = np.full(len(clients), np.nan)
        for _ in range(max(1, self.faulty - len(found))):
            if len(left) < FEWEST_TO_JUDGE or len(found) >= self.faulty:
                break
            together, more = common(bits[left], neurons)
            votes[left] = blames(more, self.outlier)
            agreement[left] = (together + more).mean(axis=1) / max(1, neurons)
            odd = max(left, key=lambda i: (votes[i], agreement[i]))
            if 2 * votes[odd] <= self.inputs:
                break
            found.append(odd)
            left.remove(odd)
        return DebuggingResult(
            faulty=[clients[i] for i in found],
            clients=clients,
            votes=votes,
            agreement=agreement,
            inputs=self.inputs,
            neurons=neurons,
            nonfinite=nonfinite,
        )

    def _bits(self, updates: Sequence[ClientUpdate]) -> tuple[Bits, int, list[bool]]:
        """Active neurons of each client and input, eight a byte; how many neurons; whose model gives finite outputs."""
        each, x = self._prepared()

        def look(module: Any) -> tuple[Bits, int, bool]:
            bits, good = self._of_model(module, x)
            return np.packbits(bits, axis=1), bits.shape[1], good

        found = each(updates, look)
        for update, (_, neurons, _) in zip(updates, found, strict=True):
            if neurons != found[0][1]:
                raise InvalidParameterError(
                    f"{self.name}: the model {self.model}() shows {neurons} neurons for the {update.key} and "
                    f"{found[0][1]} for another client, so they cannot be compared"
                )
        return np.stack([bits for bits, *_ in found]), found[0][1], [good for *_, good in found]

    def _of_model(self, module: Any, x: NDArray[Any]) -> tuple[NDArray[np.bool_], bool]:
        try:
            return activations(module, as_tensor(x), self.threshold, self.layers)
        except FLStoreError:
            raise
        except Exception as error:
            raise InvalidParameterError(
                f"{self.name}: the model {self.model}() cannot take inputs of shape {list(x.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _prepared(self) -> tuple[Each, NDArray[Any]]:
        """How to look at the models of clients, and the inputs."""
        random, model = np.random.default_rng(self.seed), str(self.model)
        if self.shape is not None:
            layers = Stages(self.name, model)

            def alone(updates: Sequence[ClientUpdate], look: Callable[[Any], Any]) -> list[Any]:
                with torch_module().inference_mode():
                    return [look(layers.loaded(update)) for update in updates]

            return alone, random.standard_normal((self.inputs, *self.shape), dtype=np.float32)
        judge = evaluator(self.name, model, str(self.data))
        shape, kind = (self.inputs, *judge.x.shape[1:]), judge.x.dtype.kind
        if kind in "iub":
            low, high = int(judge.x.min()), int(judge.x.max())
            return judge.each, random.integers(low, high, shape, endpoint=True).astype(judge.x.dtype)
        return judge.each, random.standard_normal(shape, dtype=np.float32).astype(judge.x.dtype)


def blames(more: Counts, outlier: float) -> Counts:
    """How many inputs blame each client: those for which the others agree most without it, by far. Ties blame nobody.

    Parameters
    ----------
    more : ndarray of int64, shape (clients, inputs)
        How many more neurons the others activate together.
    outlier : float
        In units of 1.4826 MAD over the clients.
    """
    best = more == more.max(axis=0)
    middle = np.median(more, axis=0)
    scale = 1.4826 * np.median(np.abs(more - middle), axis=0)
    far = more - middle > outlier * np.maximum(scale, _TWENTIETH * np.maximum(middle, 1.0))
    votes: Counts = (best & far & (best.sum(axis=0) == 1)).sum(axis=1)
    return votes
