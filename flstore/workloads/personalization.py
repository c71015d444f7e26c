"""A model for each group of similar clients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError
from flstore.types import Key, PolicyClass
from flstore.workloads._combine import weighted_mean
from flstore.workloads._evaluate import AT_ONCE, evaluator, outputs_name
from flstore.workloads._outputs import ahead, outputs, update_keys
from flstore.workloads._params import check_choice, check_integer
from flstore.workloads._plot import start
from flstore.workloads._round import OF, PRODUCTS, round_needs
from flstore.workloads._scores import check_precision, check_task
from flstore.workloads.base import Catalogue, Inputs, Piecewise, Scope, require_round
from flstore.workloads.clustering import Clustering

BEST = 5
"""How many of a cluster make its model, unless something else is asked for: as in the paper's artifact."""


@dataclass(frozen=True, eq=False, repr=False)
class PersonalizationResult(Tabular):
    """The clusters of a round, and what their models are worth to their clients.

    Attributes
    ----------
    clients : list of str, length n
        Sorted; the order of all arrays.
    clusters : ndarray of int64, shape (n,)
        Cluster of each client, 0 to m - 1; -1 for a client in `nonfinite`.
    before : ndarray of float64, shape (n,)
        Score of the client's own model on the held-out data; NaN for a client in `nonfinite`.
    after : ndarray of float64, shape (n,)
        Score of its personal model, that of its cluster.
    weights : ndarray of float64, shape (n,)
        The client's share in the model of its cluster; 0 for those that are not among its best, and one altogether in
        each cluster. With the updates they make the models again.
    metric, of : str
        What the scores are, and what was clustered: "delta" or "model".
    nonfinite : list of str
        Clients whose update has NaN or infinities; they get no personal model.
    """

    clients: list[str]
    clusters: NDArray[np.int64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    weights: NDArray[np.float64]
    metric: str
    of: str
    nonfinite: list[str]

    def frame(self) -> Any:
        """One row a client, cluster by cluster, the best first."""
        import pandas as pd

        columns = {
            "cluster": self.clusters, "before": self.before, "after": self.after,
            "gain": self.after - self.before, "weight": self.weights,
        }  # fmt: skip
        table = pd.DataFrame(columns, index=pd.Index(self.clients, name="client"))
        return table.sort_values(["cluster", "before"], ascending=[True, False], kind="stable")

    def plot(self, ax: Any = None) -> Any:
        """Score before and after of each client, coloured by cluster; returns the axes."""
        seaborn, ax = start(ax, "PersonalizationResult.plot")
        table = self.frame().dropna()
        seaborn.scatterplot(table, x="before", y="after", hue="cluster", palette="colorblind", s=80, ax=ax)
        low, high = (float(f(table[["before", "after"]].to_numpy())) for f in (np.min, np.max))
        ax.plot([low, high], [low, high], color="grey", linewidth=1)
        ax.set(title=f"Personal models ({self.metric})", xlabel="own model", ylabel="personal model")
        return ax


@dataclass(frozen=True)
class Personalization(Piecewise):
    """A model for each cluster of similar clients (class P2): the mean of its best, weighted by how good they are.

    The updates of the round are clustered by k-means (as ``clustering`` does), every client's own model is judged on
    held-out data, and the best k of each cluster are averaged, each with a weight in proportion to its score. Scores of
    a metric that can be negative, such as "loss", weigh by their exponential: for the cross entropy, that is the
    (geometric) mean probability of the true class.

    Parameters
    ----------
    clusters : int
        Clusters; at most the number of clients with finite updates.
    k : int, optional
        How many of a cluster's clients make its model; default five. A smaller cluster gives all it has.
    of : {"delta", "model"}, optional
        What is clustered, as in ``clustering``.
    seed : int
        Of the k-means++ starts.
    model, data, metric, precision : str
        As in ``store.task``, from which they are taken by default.

    References
    ----------
    Tan, Yu, Cui, Yang: Towards Personalized Federated Learning. IEEE TNNLS 2022. Ghosh,
    Chung, Yin, Ramchandran: An Efficient Framework for Clustered Federated Learning. NeurIPS 2020. Khan et al.:
    FLStore. MLSys 2025, Table 1 (P2); its artifact averages the five most accurate of a cluster.

    Examples
    --------
    ``store.request("personalization", round=7, clusters=2).value.frame()``

    >>> from flstore.testing.sample_job import sample_job
    >>> task = {"model": "flstore.testing.sample_task:model", "data": "flstore.testing.sample_task:data"}
    >>> result = sample_job().ask(Personalization(**task, clusters=2, k=1), round=3)
    >>> float(result.weights.sum())
    2.0
    """

    name: ClassVar[str] = "personalization"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = PersonalizationResult

    model: str
    data: str
    metric: str | None = None
    clusters: int = 2
    k: int | None = None
    of: str | None = None
    seed: int = 0
    precision: str | None = None

    def __post_init__(self) -> None:
        check_task(self.name, self.model, self.data, self.metric or "accuracy")
        check_integer(self.name, "clusters", self.clusters, 1)
        if self.k is not None:
            check_integer(self.name, "k", self.k, 1)
        check_choice(self.name, "of", self.of, OF)
        check_precision(self.name, self.precision)
        check_integer(self.name, "seed", self.seed, 0)

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        keys = round_needs(self.name, self.of, scope, catalogue)
        clients = sum(key.client is not None for key in keys)
        for name, value in (("clusters", self.clusters), ("k", self.k or 1)):
            if value > clients:
                raise InvalidParameterError(f"{self.name}: {name}={value}, but the round has {clients} clients")
        return keys

    @property
    def piece(self) -> str:
        return outputs_name(self.model, self.data, self.precision)

    def ahead(self, inputs: Inputs) -> Iterator[None]:
        self._products(inputs)
        yield
        judge = evaluator(self.name, self.model, self.data, self.precision)
        yield from ahead(judge, inputs, require_round(self.name, inputs.scope))

    def _products(self, inputs: Inputs) -> Mapping[str, Any]:
        """What clustering derives, which it may have done before."""
        return inputs.once(PRODUCTS, inputs.data, lambda: self._clustering.derive(inputs))

    @property
    def _clustering(self) -> Clustering:
        return Clustering(k=self.clusters, of=self.of, seed=self.seed)

    def compute(self, inputs: Inputs) -> PersonalizationResult:
        keys = update_keys(inputs, require_round(self.name, inputs.scope))
        updates = inputs.updates(require_round(self.name, inputs.scope))
        groups = self._clustering.finish(inputs.scope, self._products(inputs))
        metric = self.metric or "accuracy"
        judge = evaluator(self.name, self.model, self.data, self.precision)
        before, after = (np.full(len(updates), np.nan) for _ in range(2))
        weights = np.zeros(len(updates))
        models = list(updates.values())
        finite = np.flatnonzero(groups.labels >= 0)
        given = outputs(judge, inputs, [keys[i] for i in finite])
        before[finite] = [judge.judge(found, metric) for found in given]
        clusters = [np.flatnonzero(groups.labels == cluster) for cluster in range(self.clusters)]
        clusters = [members for members in clusters if len(members)]
        for some in (clusters[at : at + AT_ONCE] for at in range(0, len(clusters), AT_ONCE)):
            personal = []
            for members in some:
                best = members[np.argsort(-before[members], kind="stable")][: self.k or BEST]
                weights[best] = _shares(before[best])
                personal.append(weighted_mean([models[i] for i in best], weights[best].tolist()))
            for members, found in zip(some, judge.outputs_of(personal), strict=True):
                after[members] = judge.judge(found, metric)
        return PersonalizationResult(
            clients=groups.clients,
            clusters=groups.labels,
            before=before,
            after=after,
            weights=weights,
            metric=metric,
            of=groups.of,
            nonfinite=groups.nonfinite,
        )


def _shares(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights that sum to one: in proportion to scores, or to their exponentials where one is negative."""
    if not np.isfinite(scores).all():
        return np.full(len(scores), 1 / len(scores))
    sizes = scores if scores.min() >= 0 else np.exp(scores - scores.max())
    total = sizes.sum()
    shares: NDArray[np.float64] = sizes / total if total > 0 else np.full(len(scores), 1 / len(scores))
    return shares
