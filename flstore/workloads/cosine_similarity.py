"""Cosine similarity between the client updates of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.display.table import Tabular
from flstore.types import Key, PolicyClass
from flstore.workloads._gram import cosine, nonfinite_rows, norms
from flstore.workloads._params import check_choice
from flstore.workloads._plot import start
from flstore.workloads._round import OF, round_needs, round_updates
from flstore.workloads.base import Additive, Catalogue, Inputs, Scope


@dataclass(frozen=True, eq=False, repr=False)
class CosineSimilarityResult(Tabular):
    """Pairwise similarities of a round.

    Attributes
    ----------
    clients : list of str, length n
        Sorted; the order of all arrays.
    similarity : ndarray of float64, shape (n, n)
        In [-1, 1]; 0 with a zero vector, NaN for a client in `nonfinite`.
    norms : ndarray of float64, shape (n,)
        Euclidean norms of the compared vectors.
    of : str
        What was compared: "delta" or "model".
    nonfinite : list of str
        Clients whose update has NaN or infinities.
    """

    clients: list[str]
    similarity: NDArray[np.float64]
    norms: NDArray[np.float64]
    of: str
    nonfinite: list[str]

    def frame(self) -> Any:
        """The similarities as a DataFrame, client by client."""
        import pandas as pd

        return pd.DataFrame(self.similarity, index=self.clients, columns=self.clients)

    def plot(self, ax: Any = None) -> Any:
        """A heatmap; returns its axes."""
        seaborn, ax = start(ax, "CosineSimilarityResult.plot")
        seaborn.heatmap(self.frame(), vmin=-1, vmax=1, cmap="vlag", square=True, ax=ax)
        ax.set(title=f"Cosine similarity ({self.of})", xlabel="client", ylabel="client")
        return ax


@dataclass(frozen=True)
class CosineSimilarity(Additive):
    """Cosine similarity of every pair of client updates of a round (class P2).

    Parameters
    ----------
    of : {"delta", "model"}, optional
        "delta": the update minus the aggregate of the round before, which it started from. "model": the weights as they
        came; these are nearly parallel, whatever the clients did. Default: "delta" when that aggregate is stored.

    References
    ----------
    Sattler, Mueller, Samek: Clustered Federated Learning. IEEE TNNLS 2021 (similarity of deltas between clients).

    Examples
    --------
    ``store.request("cosine_similarity", round=3).value.plot()``

    >>> from flstore.testing.sample_job import sample_job
    >>> sample_job().ask(CosineSimilarity(), round=3).similarity[:2, :2].round(2)
    array([[1.  , 0.47],
           [0.47, 1.  ]])
    """

    name: ClassVar[str] = "cosine_similarity"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = CosineSimilarityResult

    of: str | None = None

    def __post_init__(self) -> None:
        check_choice(self.name, "of", self.of, OF)

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        return round_needs(self.name, self.of, scope, catalogue)

    def partial(self, inputs: Inputs) -> dict[str, Any]:
        return round_updates(self.name, self.of, inputs).products()

    def finish(self, scope: Scope, total: Mapping[str, Any]) -> CosineSimilarityResult:
        products, clients = total["products"], total["clients"]
        bad = nonfinite_rows(products)
        return CosineSimilarityResult(
            clients=clients,
            similarity=cosine(products),
            norms=norms(products),
            of=total["of"],
            nonfinite=[client for client, odd in zip(clients, bad, strict=True) if odd],
        )
