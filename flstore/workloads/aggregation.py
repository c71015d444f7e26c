"""One model from the client updates of a round: weighted mean, median or trimmed mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads._combine import Rule, combine, middle, weighted
from flstore.workloads._metadata import EXAMPLES, number
from flstore.workloads._params import check_choice
from flstore.workloads._plot import start
from flstore.workloads.base import Catalogue, Inputs, Scope, Workload, require_round

RULES = ("mean", "median", "trimmed_mean")


@dataclass(frozen=True, eq=False, repr=False)
class AggregationResult(Tabular):
    """A model, and whose updates are in it.

    Attributes
    ----------
    tensors : dict of str to ndarray
        By name, in the order and with the dtypes of the updates; integers are rounded to the nearest.
    clients : list of str, length n
        Sorted; the order of `weights`.
    weights : ndarray of float64, shape (n,)
        Share of each client, with a sum of 1; equal ones for "median" and "trimmed_mean". 0 for a client in
        `nonfinite`.
    weighting : str
        "examples", or "equal".
    unweighted : list of str
        Clients whose metadata has no number of examples: why a mean is an equal one.
    rule : str
        As asked for.
    trimmed : int
        How many values were left out at either end, of each element.
    nonfinite : list of str
        Clients whose update has NaN or infinities; they take no part.
    """

    tensors: dict[str, NDArray[Any]]
    clients: list[str]
    weights: NDArray[np.float64]
    weighting: str
    unweighted: list[str]
    rule: str
    trimmed: int
    nonfinite: list[str]

    def frame(self) -> Any:
        """One row a tensor: its dtype, shape, and mean and standard deviation of its values."""
        import pandas as pd

        values = {name: np.abs(t) if t.dtype.kind == "c" else t for name, t in self.tensors.items()}
        columns = {
            "dtype": [tensor.dtype.name for tensor in self.tensors.values()],
            "shape": [" x ".join(map(str, tensor.shape)) for tensor in self.tensors.values()],
            "mean": [float(v.mean(dtype=np.float64)) if v.size else np.nan for v in values.values()],
            "std": [float(v.std(dtype=np.float64)) if v.size else np.nan for v in values.values()],
        }
        return pd.DataFrame(columns, index=pd.Index(list(self.tensors), name="tensor"))

    def plot(self, ax: Any = None) -> Any:
        """The share of each client; returns the axes."""
        seaborn, ax = start(ax, "AggregationResult.plot", (6.0, 3.5))
        seaborn.barplot(x=self.clients, y=self.weights, color="C0", ax=ax)
        ax.set(title=f"{self.rule} ({self.weighting} weights)", xlabel="client", ylabel="weight")
        return ax


@dataclass(frozen=True)
class Aggregation(Workload):
    """Aggregate the client updates of a round anew (class P2), element by element.

    The paper names aggregation as one more workload of a round (section 3), and the authors' artifact has it.

    Parameters
    ----------
    rule : {"mean", "median", "trimmed_mean"}
        "mean" is weighted by the number of examples in the metadata (``num-examples``, ``num_examples`` or
        ``examples``); where a client has none, all weigh the same, and the result says whose is missing.
    trim : float
        For "trimmed_mean": which share of the values to leave out at either end, rounded down to whole clients;
        below 0.5.
    without : sequence of str
        Clients to leave out: what the model would have been without them.

    Notes
    -----
    Sums are taken in float64. Integer tensors (the counters of BatchNorm) are aggregated by the same rule and rounded
    to the nearest. Updates with NaN or infinities are left out, and named. Nothing is stored: ingest the tensors as
    the aggregate of a round if they are to stay.

    References
    ----------
    McMahan, Moore, Ramage, Hampson, Agüera y Arcas: Communication-Efficient Learning of Deep Networks from
    Decentralized Data. AISTATS 2017 (the mean). Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed
    Learning: Towards Optimal Statistical Rates. ICML 2018 (median and trimmed mean). Khan et al.: FLStore. MLSys 2025,
    section 3 and Table 1 (P2).

    Examples
    --------
    >>> from flstore.testing.sample_job import sample_job
    >>> job = sample_job()
    >>> scope, median = Scope(job.name, round=2), Aggregation(rule="median")
    >>> result = median.compute(Inputs(scope, {key: job.read(key) for key in median.needs(scope, job)}))
    >>> result.tensors["dense.weight"].shape, int(result.tensors["steps"])
    ((8, 4), 20)

    >>> job.ask(Aggregation(without=["c0", "c1"]), round=2).clients
    ['c2', 'c4', 'c5']

    With a store: ``store.request("aggregation", round=2, rule="median").value.tensors``
    """

    name: ClassVar[str] = "aggregation"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = AggregationResult

    rule: str = "mean"
    trim: float = 0.1
    without: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_choice(self.name, "rule", self.rule, RULES)
        if isinstance(self.trim, bool) or not isinstance(self.trim, (int, float)) or not 0 <= self.trim < 0.5:
            raise InvalidParameterError(f"{self.name}: trim={self.trim!r} is no number of at least 0 and below 0.5")
        if isinstance(self.without, str) or not all(isinstance(client, str) for client in self.without):
            raise InvalidParameterError(f"{self.name}: without is a list of client ids, not {self.without!r}")
        object.__setattr__(self, "without", tuple(self.without))

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        round = require_round(self.name, scope)
        clients = self._kept(round, catalogue.clients(round))
        keys = [Key(scope.job, Kind.UPDATE, round, client) for client in clients]
        if self.rule == "mean":
            known = set(clients)
            told = [client for client in catalogue.clients_with_metadata(round) if client in known]
            keys += [Key(scope.job, Kind.METADATA, round, client) for client in told]
        return keys

    def _kept(self, round: int, clients: Sequence[str]) -> list[str]:
        if odd := sorted(set(self.without) - set(clients)):
            raise InvalidParameterError(
                f"{self.name}: without names {', '.join(map(repr, odd))}, not among the clients of round {round}: "
                f"{', '.join(clients[:20])}"
            )
        if kept := [client for client in clients if client not in self.without]:
            return kept
        raise InvalidParameterError(f"{self.name}: without names every client of round {round}")

    def compute(self, inputs: Inputs) -> AggregationResult:
        updates = inputs.updates(require_round(self.name, inputs.scope))
        clients = list(updates)
        examples = {row["client"]: number(row, EXAMPLES) for row in inputs.metadata()}
        unweighted = [client for client in clients if examples.get(client) is None] if self.rule == "mean" else []
        shares = np.ones(len(clients))
        if self.rule == "mean" and not unweighted:
            shares = np.array([examples[client] for client in clients], dtype=np.float64)
        blank, bad = combine(list(updates.values()), lambda kept: self._rule(shares[kept]))
        kept = [i for i in range(len(clients)) if i not in bad]
        weights = np.zeros(len(clients))
        weights[kept] = _normal(shares[kept])
        return AggregationResult(
            tensors=blank.tensors(),
            clients=clients,
            weights=weights,
            weighting="examples" if self.rule == "mean" and not unweighted and shares[kept].any() else "equal",
            unweighted=unweighted,
            rule=self.rule,
            trimmed=self._cut(len(clients) - len(bad)),
            nonfinite=[clients[i] for i in bad],
        )

    def _rule(self, shares: NDArray[np.float64]) -> Rule:
        return weighted(_normal(shares)) if self.rule == "mean" else middle(self._cut(len(shares)))

    def _cut(self, clients: int) -> int:
        if self.rule == "median":
            return (clients - 1) // 2
        return int(self.trim * clients) if self.rule == "trimmed_mean" else 0


def _normal(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares with a sum of one; equal ones where all are zero."""
    total = shares.sum()
    return shares / total if total > 0 else np.full(len(shares), 1.0 / len(shares))
