"""Clients for the next round whose updates stand for those of all: a diverse choice by similarity."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError
from flstore.types import Key, PolicyClass
from flstore.workloads._gram import Matrix, cosine, nonfinite_rows
from flstore.workloads._params import check_choice, check_integer
from flstore.workloads._plot import start
from flstore.workloads._round import OF, PRODUCTS, round_needs, round_updates
from flstore.workloads.base import Additive, Catalogue, Inputs, Scope

_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class SchedulingSimilarityResult(Tabular):
    """Who should train next, and for whom each of them stands.

    Attributes
    ----------
    chosen : list of str, length count
        In the order of the choice: the first alone stands best for all, and so on.
    clients : list of str, length n
        All clients of the round, sorted; the order of what follows.
    represented_by : list of str
        The chosen client that is most similar to each; "" for a client in `nonfinite`.
    similarity : ndarray of float64, shape (n,)
        Cosine to that one; NaN for a client in `nonfinite`.
    coverage : ndarray of float64, shape (count,)
        Mean of the clients' similarity to the nearest chosen one, after each choice.
    of : str
        What was compared: "delta" or "model".
    nonfinite : list of str
        Clients whose update has NaN or infinities; they are not chosen.
    """

    chosen: list[str]
    clients: list[str]
    represented_by: list[str]
    similarity: NDArray[np.float64]
    coverage: NDArray[np.float64]
    of: str
    nonfinite: list[str]

    def frame(self) -> Any:
        """One row a client, the chosen ones first."""
        import pandas as pd

        place = {client: i for i, client in enumerate(self.chosen)}
        columns = {
            "chosen": [client in place for client in self.clients],
            "represented_by": self.represented_by,
            "similarity": self.similarity,
        }
        table = pd.DataFrame(columns, index=pd.Index(self.clients, name="client"))
        return table.loc[sorted(self.clients, key=lambda client: (place.get(client, len(place)), client))]

    def plot(self, ax: Any = None) -> Any:
        """How well the chosen stand for all, after each choice; returns the axes."""
        seaborn, ax = start(ax, "SchedulingSimilarityResult.plot")
        seaborn.lineplot(x=self.chosen, y=self.coverage, marker="o", ax=ax)
        ax.set(title=f"Coverage ({self.of})", xlabel="chosen, in order", ylabel="mean cosine to the nearest chosen")
        return ax


@dataclass(frozen=True)
class SchedulingSimilarity(Additive):
    """Choose clients for the next round by the similarity of their updates (class P2), as DivFL does.

    The chosen maximise the facility location function F(S) = sum over clients i of max over j in S of (1 + cos(i, j)),
    greedily: at least 1 - 1/e of the best possible. DivFL compares gradients by their distance; here it is the cosine
    (Table 1's scheduling, and the authors' artifact), which does not mind how long a client trained.

    Parameters
    ----------
    count : int
        How many to choose; at most the clients of the round with finite updates.
    of : {"delta", "model"}, optional
        As in ``cosine_similarity``.

    References
    ----------
    Balakrishnan, Li, Zhou, Himayat, Smith, Bilmes: Diverse Client Selection for Federated Learning via Submodular
    Maximization. ICLR 2022. Nemhauser, Wolsey, Fisher: An Analysis of Approximations for Maximizing Submodular Set
    Functions. Mathematical Programming 1978 (the bound). Khan et al.: FLStore. MLSys 2025, Table 1 (P2, scheduling).

    Examples
    --------
    >>> from flstore.testing.sample_job import sample_job
    >>> job = sample_job()
    >>> scope, workload = Scope(job.name, round=2), SchedulingSimilarity(count=2)
    >>> result = workload.compute(Inputs(scope, {key: job.read(key) for key in workload.needs(scope, job)}))
    >>> len(result.chosen), set(result.represented_by) == set(result.chosen)
    (2, True)

    With a store: ``store.request("scheduling_similarity", round=2, count=2).value.chosen``
    """

    name: ClassVar[str] = "scheduling_similarity"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = SchedulingSimilarityResult

    count: int = 3
    of: str | None = None

    def __post_init__(self) -> None:
        check_integer(self.name, "count", self.count, 1)
        check_choice(self.name, "of", self.of, OF)

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        keys = round_needs(self.name, self.of, scope, catalogue)
        self._check(sum(key.client is not None for key in keys), "clients")
        return keys

    def derivation(self, keys: Collection[Key]) -> str:
        return PRODUCTS

    def partial(self, inputs: Inputs) -> dict[str, Any]:
        return round_updates(self.name, self.of, inputs).products()

    def finish(self, scope: Scope, total: Mapping[str, Any]) -> SchedulingSimilarityResult:
        products, clients = total["products"], total["clients"]
        bad = nonfinite_rows(products)
        finite = np.flatnonzero(~bad)
        self._check(len(finite), "clients with finite updates")
        similarity = cosine(products[np.ix_(finite, finite)])
        chosen = greedy(similarity, self.count)
        nearest = similarity[:, chosen].argmax(axis=1)
        represented = [""] * len(clients)
        closeness = np.full(len(clients), np.nan)
        for i, j in zip(finite.tolist(), nearest.tolist(), strict=True):
            represented[i] = clients[finite[chosen[j]]]
        closeness[finite] = similarity[:, chosen].max(axis=1)
        return SchedulingSimilarityResult(
            chosen=[clients[finite[i]] for i in chosen],
            clients=clients,
            represented_by=represented,
            similarity=closeness,
            coverage=np.maximum.accumulate(similarity[:, chosen], axis=1).mean(axis=0),
            of=total["of"],
            nonfinite=[client for client, odd in zip(clients, bad, strict=True) if odd],
        )

    def _check(self, clients: int, what: str) -> None:
        if self.count > clients:
            raise InvalidParameterError(f"{self.name}: count={self.count}, but the round has {clients} {what}")


def greedy(similarity: Matrix, count: int) -> list[int]:
    """Indices that greedily maximise the facility location function of similarities in [-1, 1]; the first of equals.

    Two clients that resemble nobody but each other gain exactly the same, so what counts as equal allows for rounding.

    Parameters
    ----------
    similarity : ndarray of float64, shape (n, n)
    count : int
        At most n.
    """
    covered = np.full(len(similarity), -1.0)
    chosen: list[int] = []
    for _ in range(count):
        gain = np.maximum(similarity - covered[:, None], 0.0).sum(axis=0)
        gain[chosen] = -1.0
        chosen.append(int(np.flatnonzero(gain >= gain.max() - _ROUNDING * len(similarity))[0]))
        covered = np.maximum(covered, similarity[:, chosen[-1]])
    return chosen
