"""Who is paid how much for a round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.display.table import Tabular
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads._evaluate import evaluator, outputs_name
from flstore.workloads._outputs import ahead, finite, outputs, update_keys
from flstore.workloads._params import check_integer
from flstore.workloads._plot import start
from flstore.workloads._scores import check_precision, check_task
from flstore.workloads.base import Catalogue, Inputs, Piecewise, Scope, require_round


@dataclass(frozen=True, eq=False, repr=False)
class IncentivesResult(Tabular):
    """Tokens of a round's clients.

    Attributes
    ----------
    clients : list of str, length n
        Sorted; the order of all arrays.
    scores : ndarray of float64, shape (n,)
        Score of each client's model on the held-out data; NaN for a client in `nonfinite`.
    tokens : ndarray of int64, shape (n,)
        What each gets; they sum to `budget` (to 0 when every client is in `nonfinite`).
    mean : float
        Mean score.
    budget : int
        Tokens to give away.
    metric : str
        What `scores` are.
    nonfinite : list of str
        Clients whose update has NaN or infinities, or whose score is none; they get nothing.
    """

    clients: list[str]
    scores: NDArray[np.float64]
    tokens: NDArray[np.int64]
    mean: float
    budget: int
    metric: str
    nonfinite: list[str]

    def frame(self) -> Any:
        """One row a client, the best paid first."""
        import pandas as pd

        columns = {"tokens": self.tokens, "score": self.scores, "above_mean": self.scores - self.mean}
        table = pd.DataFrame(columns, index=pd.Index(self.clients, name="client"))
        return table.sort_values("tokens", ascending=False, kind="stable")

    def plot(self, ax: Any = None) -> Any:
        """Tokens as bars; returns the axes."""
        seaborn, ax = start(ax, "IncentivesResult.plot", (6.0, 3.5))
        seaborn.barplot(self.frame().reset_index(), x="client", y="tokens", color="tab:blue", ax=ax)
        ax.set(title=f"{self.budget} tokens by {self.metric} above the mean")
        return ax


@dataclass(frozen=True)
class Incentives(Piecewise):
    """Share a budget of tokens among the clients of a round (class P2), by how far each is above the mean.

    A client's share is in proportion to its score on held-out data minus the mean score of the round; who is not above
    the mean gets nothing. When nobody is (all are equal), all get the same. Tokens are whole: fractions go by largest
    remainder, then in the order of client ids, so that exactly the budget is given away.

    Parameters
    ----------
    budget : int
        Tokens of the round.
    model, data, metric, precision : str
        As in ``store.task``, from which they are taken by default.

    References
    ----------
    Han, Khan, Zawad, Anwar, Baracaldo Angel, Zhou, Yan, Butt: TIFF: Tokenized Incentive for Federated Learning. IEEE
    CLOUD 2022. Khan et al.: FLStore. MLSys 2025, Table 1 (P2, client incentives).

    Examples
    --------
    ``store.request("incentives", round=7, budget=500).value.plot()``

    >>> from flstore.testing.sample_job import sample_job
    >>> ask = Incentives(model="flstore.testing.sample_task:model", data="flstore.testing.sample_task:data")
    >>> int(sample_job().ask(ask, round=3).tokens.sum())
    1000
    """

    name: ClassVar[str] = "incentives"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = IncentivesResult

    model: str
    data: str
    metric: str | None = None
    budget: int = 1000
    precision: str | None = None

    def __post_init__(self) -> None:
        check_task(self.name, self.model, self.data, self.metric or "accuracy")
        check_integer(self.name, "budget", self.budget, 0)
        check_precision(self.name, self.precision)

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        round = require_round(self.name, scope)
        return [Key(scope.job, Kind.UPDATE, round, client) for client in catalogue.clients(round)]

    @property
    def piece(self) -> str:
        return outputs_name(self.model, self.data, self.precision)

    def ahead(self, inputs: Inputs) -> Iterator[None]:
        judge = evaluator(self.name, self.model, self.data, self.precision)
        return ahead(judge, inputs, require_round(self.name, inputs.scope), also_finite=True)

    def compute(self, inputs: Inputs) -> IncentivesResult:
        keys = update_keys(inputs, require_round(self.name, inputs.scope))
        updates = [str(key.client) for key in keys]
        metric, judge = self.metric or "accuracy", evaluator(self.name, self.model, self.data, self.precision)
        good = [key for key, fine in zip(keys, finite(inputs, keys), strict=True) if fine]
        scores = dict.fromkeys(updates, float("nan"))
        for key, given in zip(good, outputs(judge, inputs, good), strict=True):
            scores[str(key.client)] = judge.judge(given, metric)
        known = {client: score for client, score in scores.items() if np.isfinite(score)}
        tokens = dict(zip(known, share_out(self.budget, list(known.values())), strict=True))
        return IncentivesResult(
            clients=updates,
            scores=np.array(list(scores.values())),
            tokens=np.array([tokens.get(client, 0) for client in updates], dtype=np.int64),
            mean=float(np.mean(list(known.values()))) if known else float("nan"),
            budget=self.budget,
            metric=metric,
            nonfinite=[client for client in updates if client not in known],
        )


def share_out(budget: int, scores: Sequence[float]) -> list[int]:
    """Whole shares of a budget, in proportion to how far scores are above their mean; they sum to the budget.

    Examples
    --------
    >>> share_out(10, [0.5, 0.75, 1.0, 0.25])
    [0, 3, 7, 0]
    >>> share_out(10, [0.5, 0.5, 0.5])
    [4, 3, 3]
    """
    if not scores:
        return []
    # Fractions are exact: no rounding can create or lose a token.
    values = [Fraction(score) for score in scores]
    mean = sum(values) / len(values)
    above = [max(Fraction(0), value - mean) for value in values]
    total = sum(above)
    quotas = [budget * part / total if total else Fraction(budget, len(values)) for part in above]
    shares = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(values)), key=lambda i: (shares[i] - quotas[i], i))
    for i in by_remainder[: budget - sum(shares)]:
        shares[i] += 1
    return shares
