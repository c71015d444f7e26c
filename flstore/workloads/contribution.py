"""How much each client contributed to a round."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.display.table import Tabular
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads._combine import weighted_mean
from flstore.workloads._evaluate import AT_ONCE, evaluator
from flstore.workloads._gram import Matrix, cosine, is_finite, nonfinite_rows
from flstore.workloads._params import check_choice, check_integer, check_not_negative
from flstore.workloads._plot import start
from flstore.workloads._round import OF, PRODUCTS, round_needs, round_updates
from flstore.workloads._scores import check_precision, check_task
from flstore.workloads._shapley import Shapley, estimate, exact, sampled
from flstore.workloads.base import Additive, Catalogue, Inputs, Scope, require_round

UTILITIES = ("cosine_gradient", "accuracy")
MOST_EXACT = 16
"""With so many clients there are 65,536 coalitions: 30 MB and a tenth of a second, when a coalition costs nothing."""

# Squared length of a sum of unit vectors that cancel out, in units of their number: what is left is float32 rounding.
_ROUNDING = 1e-7


@dataclass(frozen=True, eq=False, repr=False)
class ContributionResult(Tabular):
    """Shapley values of a round's clients.

    Attributes
    ----------
    clients : list of str, length n
        Sorted; the order of all arrays.
    values : ndarray of float64, shape (n,)
        Shapley value of each client; NaN for a client in `nonfinite`. They sum to `total` where they are exact.
    standard_errors : ndarray of float64, shape (n,)
        Of the estimates over random orders; 0 where values are exact.
    cosine : ndarray of float64, shape (n,)
        Cosine of each client's update to the sum of all, each of unit length. Empty with utility="accuracy".
    total : float
        What all clients together are worth more than none.
    utility, metric : str
        What a coalition is worth; metric is "" with utility="cosine_gradient".
    permutations : int
        Random orders that were drawn; 0 where values are exact.
    tolerance : float
        How far the truncation of orders may have shifted a value, beyond its standard error; 0 where none was.
    of : str
        "delta" or "model": what was compared. "model" with utility="accuracy", which judges whole models.
    nonfinite : list of str
        Clients whose update has NaN or infinities; they are in no coalition.
    """

    clients: list[str]
    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    cosine: NDArray[np.float64]
    total: float
    utility: str
    metric: str
    permutations: int
    tolerance: float
    of: str
    nonfinite: list[str]

    def frame(self) -> Any:
        """One row a client, the largest contribution first."""
        import pandas as pd

        columns = {"value": self.values, "standard_error": self.standard_errors}
        if len(self.cosine):
            columns["cosine"] = self.cosine
        table = pd.DataFrame(columns, index=pd.Index(self.clients, name="client"))
        return table.sort_values("value", ascending=False, kind="stable")

    def plot(self, ax: Any = None) -> Any:
        """Values as bars with their standard errors; returns the axes."""
        seaborn, ax = start(ax, "ContributionResult.plot", (6.0, 3.5))
        table = self.frame().reset_index()
        seaborn.barplot(table, x="client", y="value", color="tab:blue", ax=ax)
        if self.permutations:
            ax.errorbar(range(len(table)), table["value"], yerr=table["standard_error"], fmt="none", color="black")
        ax.set(title=f"Contribution ({self.utility})", ylabel="Shapley value")
        return ax


@dataclass(frozen=True)
class Contribution(Additive):
    """Shapley values of the clients of a round (class P2): what each adds to all coalitions of others, on average.

    With utility="cosine_gradient" a coalition is worth the cosine between the sum of its updates and the sum of all
    updates, each update scaled to unit length (the cosine gradient Shapley value of Xu et al., section 3, with equal
    importance of all clients). That needs inner products only: neither model nor data. Xu et al. approximate the values
    by `cosine`; here they are exact up to 16 clients, and estimated beyond.

    With utility="accuracy" a coalition is worth the score (of `metric`) of the mean of its models on held-out data, and
    nobody at all what the aggregate of the round before is worth (0 when it is not stored). Exact values take 2^n
    evaluations; with more than `exact_up_to` clients they are estimated over random orders, cut off where a coalition
    is as good as all (TMC-Shapley of Ghorbani and Zou).

    Parameters
    ----------
    utility : {"cosine_gradient", "accuracy"}
        What a coalition is worth.
    of : {"delta", "model"}, optional
        As in ``cosine_similarity``; for utility="cosine_gradient".
    model, data, metric, precision : str, optional
        As in ``store.task``, from which they are taken by default; for utility="accuracy".
    exact_up_to : int
        Clients up to which accuracies of all coalitions are evaluated.
    permutations : int
        Random orders beyond.
    tolerance : float
        An order is cut off where its coalition scores within this of all clients together; 0 cuts nothing off.
    seed : int
        Of the orders.

    References
    ----------
    Xu, Lyu, Ma, Miao, Foo, Low: Gradient-Driven Rewards to Guarantee Fairness in Collaborative Machine Learning.
    NeurIPS 2021, section 3. Ghorbani, Zou: Data Shapley. ICML 2019. Sun et al.: ShapleyFL. KDD 2023. Khan et al.:
    FLStore. MLSys 2025, Table 1 (P2).

    Examples
    --------
    ``store.request("contribution", round=7).value.frame()``

    >>> from flstore.testing.sample_job import sample_job
    >>> result = sample_job().ask(Contribution(), round=3)
    >>> round(float(result.values.sum()), 6), result.permutations
    (1.0, 0)
    """

    name: ClassVar[str] = "contribution"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = ContributionResult

    utility: str = "cosine_gradient"
    of: str | None = None
    model: str | None = None
    data: str | None = None
    metric: str | None = None
    exact_up_to: int = 6
    permutations: int = 50
    tolerance: float = 0.01
    seed: int = 0
    precision: str | None = None

    def __post_init__(self) -> None:
        check_choice(self.name, "utility", self.utility, UTILITIES)
        check_choice(self.name, "of", self.of, OF)
        check_precision(self.name, self.precision)
        if self.utility == "accuracy":
            check_task(self.name, self.model, self.data, self.metric or "accuracy")
        check_integer(self.name, "exact_up_to", self.exact_up_to, 0, MOST_EXACT)
        check_integer(self.name, "permutations", self.permutations, 2)
        check_not_negative(self.name, "tolerance", self.tolerance)
        check_integer(self.name, "seed", self.seed, 0)

    @property
    def in_ranges(self) -> bool:
        """Whether inner products are enough."""
        return self.utility == "cosine_gradient"

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        return round_needs(self.name, self.of if self.in_ranges else None, scope, catalogue)

    def derivation(self, keys: Collection[Key]) -> str:
        return PRODUCTS if self.in_ranges else ""

    def compute(self, inputs: Inputs) -> ContributionResult:
        return super().compute(inputs) if self.in_ranges else self._by_score(inputs)

    def partial(self, inputs: Inputs) -> dict[str, Any]:
        return round_updates(self.name, self.of, inputs).products()

    def finish(self, scope: Scope, total: Mapping[str, Any]) -> ContributionResult:
        bad = nonfinite_rows(total["products"])
        similarity = cosine(total["products"][np.ix_(~bad, ~bad)])
        towards = _cosine_to_all(np.eye(len(similarity)), similarity)
        worth = float(_cosine_to_all(np.ones((1, len(similarity))), similarity)[0])
        return self._result(total["clients"], bad, self._of_cosines(similarity), worth, total["of"], towards)

    def _of_cosines(self, similarity: Matrix) -> Shapley:
        players = len(similarity)
        if players <= MOST_EXACT:
            members = (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(np.float64)
            return exact(_cosine_to_all(members, similarity))

        random, gains = np.random.default_rng(self.seed), np.zeros((self.permutations, players))
        for order in gains:
            drawn = random.permutation(players)
            worths = _cosine_to_all(np.tri(players), similarity[np.ix_(drawn, drawn)])
            order[drawn] = np.diff(worths, prepend=0.0)
        return estimate(gains)

    def _by_score(self, inputs: Inputs) -> ContributionResult:
        round = require_round(self.name, inputs.scope)
        updates = inputs.updates(round)
        bad = np.array([not is_finite(update) for update in updates.values()])
        models = [update for update, odd in zip(updates.values(), bad, strict=True) if not odd]
        judge, metric = evaluator(self.name, str(self.model), str(self.data), self.precision), self.metric or "accuracy"
        start = inputs.data.get(Key(inputs.scope.job, Kind.AGGREGATE, round - 1))
        nobody = 0.0 if start is None else judge.score(start, metric)

        def mean(coalition: frozenset[int]) -> Mapping[str, NDArray[Any]]:
            chosen = [models[i] for i in sorted(coalition)]
            return weighted_mean(chosen, [1 / len(chosen)] * len(chosen))

        @functools.cache
        def worth(coalition: frozenset[int]) -> float:
            return judge.score(mean(coalition), metric) if coalition else nobody

        players = len(models)
        everyone = worth(frozenset(range(players)))
        if players <= self.exact_up_to:
            coalitions = [frozenset(i for i in range(players) if number >> i & 1) for number in range(2**players)]
            worths = [nobody]
            for at in range(1, len(coalitions), AT_ONCE):
                given = judge.outputs_of([mean(coalition) for coalition in coalitions[at : at + AT_ONCE]])
                worths += [judge.judge(outputs, metric) for outputs in given]
            found = exact(np.array(worths))
        else:
            found = sampled(players, worth, self.permutations, self.tolerance, self.seed)
        return self._result(list(updates), bad, found, everyone - nobody, "model", np.empty(0))

    def _result(
        self, clients: list[str], bad: NDArray[np.bool_], found: Shapley, total: float, of: str, towards: Matrix
    ) -> ContributionResult:
        def everyone(values: Matrix) -> Matrix:
            whole = np.full(len(bad), np.nan)
            whole[~bad] = values
            return whole

        by_score = not self.in_ranges
        return ContributionResult(
            clients=clients,
            values=everyone(found.values),
            standard_errors=everyone(found.standard_errors),
            cosine=towards if by_score else everyone(towards),
            total=total,
            utility=self.utility,
            metric=(self.metric or "accuracy") if by_score else "",
            permutations=found.permutations,
            tolerance=self.tolerance if by_score and found.permutations else 0.0,
            of=of,
            nonfinite=[client for client, odd in zip(clients, bad, strict=True) if odd],
        )


def _cosine_to_all(members: Matrix, similarity: Matrix) -> Matrix:
    """Cosine between the sum of each coalition and the sum of all, shape (m,); 0 where one of them has no length.

    `members` has shape (m, n), `similarity` is the Gram matrix of the unit vectors.
    """
    inner = members @ similarity
    squares = np.einsum("ij,ij->i", inner, members)
    everyone = float(similarity.sum())
    has_length = np.minimum(squares, everyone) > _ROUNDING * max(1, len(similarity))
    lengths = np.sqrt(np.where(has_length, squares * everyone, 1.0))
    worths: Matrix = np.where(has_length, np.clip(inner.sum(axis=1) / lengths, -1.0, 1.0), 0.0)
    return worths
