"""Groups of clients whose updates of a round resemble each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError
from flstore.types import Key, PolicyClass
from flstore.workloads._gram import Matrix, centred, elements, gram, nonfinite_rows
from flstore.workloads._kmeans import Partition, lloyd, spread
from flstore.workloads._params import check_choice, check_integer
from flstore.workloads._plot import start
from flstore.workloads._round import OF, RoundUpdates, round_needs, round_updates
from flstore.workloads.base import Additive, Catalogue, Inputs, Scope

STARTS = 10
"""How often k-means starts anew when no centres are given; a start costs less than a millisecond."""


@dataclass(frozen=True, eq=False, repr=False)
class ClusteringResult(Tabular):
    """A partition of a round's clients.

    Attributes
    ----------
    clients : list of str, length n
        Sorted; the order of all arrays.
    labels : ndarray of int64, shape (n,)
        Cluster of each client, 0 to k - 1; -1 for a client in `nonfinite`.
    distances : ndarray of float64, shape (n, k)
        Distance of each client to each centre (NaN for a client in `nonfinite`).
    coordinates : ndarray of float64, shape (n, 2)
        A map of the clients: classical multidimensional scaling of their distances.
    inertia : float
        Squared distances of the clients to their own centres, summed.
    iterations, k : int
        Lloyd iterations of the best start, and clusters asked for.
    of : str
        What was compared: "delta" or "model".
    nonfinite : list of str
        Clients whose update has NaN or infinities; they take no part.
    """

    clients: list[str]
    labels: NDArray[np.int64]
    distances: NDArray[np.float64]
    coordinates: NDArray[np.float64]
    inertia: float
    iterations: int
    k: int
    of: str
    nonfinite: list[str]

    def frame(self) -> Any:
        """One row a client: its cluster, its distance to that centre, its place on the map."""
        import pandas as pd

        own = [row[label] if label >= 0 else np.nan for row, label in zip(self.distances, self.labels, strict=True)]
        columns = {"cluster": self.labels, "distance": own, "x": self.coordinates[:, 0], "y": self.coordinates[:, 1]}
        return pd.DataFrame(columns, index=pd.Index(self.clients, name="client"))

    def plot(self, ax: Any = None) -> Any:
        """The map of the clients, coloured by cluster; returns its axes."""
        seaborn, ax = start(ax, "ClusteringResult.plot")
        table = self.frame().dropna()
        seaborn.scatterplot(table, x="x", y="y", hue="cluster", style="cluster", palette="colorblind", s=80, ax=ax)
        for client, x, y in zip(table.index, table["x"], table["y"], strict=True):
            ax.annotate(str(client), (x, y), textcoords="offset points", xytext=(5, 5), fontsize="small")
        ax.set(title=f"{self.k} clusters ({self.of})", xlabel="MDS 1", ylabel="MDS 2")
        return ax


@dataclass(frozen=True)
class Clustering(Additive):
    """k-means over the client updates of a round (class P2), on their inner products.

    Parameters
    ----------
    k : int
        Clusters; at most the number of clients with finite updates.
    of : {"delta", "model"}, optional
        As in ``cosine_similarity``.
    seed : int
        Of the k-means++ starts, the best of ten.
    initial : sequence of str, optional
        k clients whose updates are the first centres; then there is one start, and `seed` plays no part.
    max_iter : int
        Most Lloyd iterations of a start.

    References
    ----------
    Lloyd: Least Squares Quantization in PCM. IEEE TIT 1982. Ghosh, Chung, Yin, Ramchandran: An Efficient Framework for
    Clustered Federated Learning. NeurIPS 2020.

    Examples
    --------
    ``store.request("clustering", round=3, k=2).value.frame()``

    >>> from flstore.testing.sample_job import sample_job
    >>> sample_job().ask(Clustering(k=2), round=3).labels.tolist()
    [1, 0, 0, 0, 0]
    """

    name: ClassVar[str] = "clustering"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = ClusteringResult

    k: int = 3
    of: str | None = None
    seed: int = 0
    initial: Sequence[str] | None = None
    max_iter: int = 300

    def __post_init__(self) -> None:
        check_integer(self.name, "k", self.k, 1)
        check_choice(self.name, "of", self.of, OF)
        check_integer(self.name, "seed", self.seed, 0)
        check_integer(self.name, "max_iter", self.max_iter, 1)
        if self.initial is None:
            return
        if isinstance(self.initial, str) or not all(isinstance(client, str) for client in self.initial):
            raise InvalidParameterError(f"{self.name}: initial is a list of client ids, not {self.initial!r}")
        if len(set(self.initial)) != self.k or len(self.initial) != self.k:
            raise InvalidParameterError(f"{self.name}: initial names {self.k} different clients, not {self.initial!r}")
        object.__setattr__(self, "initial", tuple(self.initial))

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        keys = round_needs(self.name, self.of, scope, catalogue)
        self._check([key.client for key in keys if key.client is not None], "clients")
        return keys

    def partial(self, inputs: Inputs) -> dict[str, Any]:
        found = round_updates(self.name, self.of, inputs)
        origin, products = _translated(found)
        return {
            "products": products,
            "origin": str(origin),
            "dimensions": elements(found.updates[0]),
            "clients": found.clients,
            "of": found.of,
        }

    def combine(self, partials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return super().combine(_of_one_origin(partials))

    def finish(self, scope: Scope, total: Mapping[str, Any]) -> ClusteringResult:
        products, clients = total["products"], total["clients"]
        bad = nonfinite_rows(products)
        finite = [client for client, odd in zip(clients, bad, strict=True) if not odd]
        self._check(finite, "clients with finite updates")
        kept = products[np.ix_(~bad, ~bad)]
        best = self._best(kept, finite, total["dimensions"])
        labels = np.full(len(bad), -1, dtype=np.int64)
        labels[~bad] = best.labels
        distances = np.full((len(bad), self.k), np.nan)
        distances[~bad] = np.sqrt(best.distances)
        coordinates = np.full((len(bad), 2), np.nan)
        coordinates[~bad] = _scaled(kept)
        return ClusteringResult(
            clients=clients,
            labels=labels,
            distances=distances,
            coordinates=coordinates,
            inertia=best.inertia,
            iterations=best.iterations,
            k=self.k,
            of=total["of"],
            nonfinite=[client for client, odd in zip(clients, bad, strict=True) if odd],
        )

    def _check(self, clients: Sequence[str], what: str) -> None:
        if self.k > len(clients):
            raise InvalidParameterError(f"{self.name}: k={self.k}, but the round has {len(clients)} {what}")
        odd = sorted(set(self.initial or ()) - set(clients))
        if odd:
            raise InvalidParameterError(
                f"{self.name}: initial names {', '.join(map(repr, odd))}, not among the round's {what}: "
                f"{', '.join(clients[:20])}"
            )

    def _best(self, products: Matrix, clients: list[str], dimensions: int) -> Partition:
        if self.initial is not None:
            starts = [np.array([clients.index(client) for client in self.initial])]
        else:
            random = np.random.default_rng(self.seed)
            starts = [spread(products, self.k, random) for _ in range(STARTS)]
        tries = [lloyd(products, first, dimensions=dimensions, max_iter=self.max_iter) for first in starts]
        return min(tries, key=lambda partition: partition.inertia)


def _translated(found: RoundUpdates) -> tuple[int, Matrix]:
    """Inner products of deltas (-1), or of weights from a common origin, and which update that is.

    Distances do not depend on the origin, and next to the norm of whole weights their differences would drown in
    rounding. So the origin of weights is one of the updates, the first that is finite.
    """
    if found.reference is not None:
        return -1, found.gram()
    for origin, update in enumerate(found.updates):
        products = gram(found.updates, update)
        if np.isfinite(products.diagonal()).any():
            return origin, products
    return 0, products


def _of_one_origin(partials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Ranges in which different updates are finite have different origins: move all to an update finite in all."""
    finite = np.all([~nonfinite_rows(p["products"]) for p in partials], axis=0)
    if len({p["origin"] for p in partials}) == 1 or not finite.any():
        return list(partials)
    o = int(finite.argmax())
    moved: list[Mapping[str, Any]] = []
    for p in partials:
        g = p["products"]
        with np.errstate(invalid="ignore"):
            moved.append({**p, "products": g - g[:, [o]] - g[[o], :] + g[o, o]})
    return moved


def _scaled(products: Matrix) -> Matrix:
    """Classical multidimensional scaling (Torgerson 1952) to two dimensions, shape (n, 2)."""
    values, vectors = np.linalg.eigh(centred(products))
    # The sign of an eigenvector is arbitrary: make its largest entry positive, so that maps agree between runs.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])
    coordinates = np.zeros((len(products), 2))
    top = min(2, len(products))
    coordinates[:, :top] = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1][:, :top]
    return coordinates
