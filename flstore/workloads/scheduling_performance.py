"""Clients for the next round by how well they do: the accuracy of their updates, or Oort's utility of what they say."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads import _oort
from flstore.workloads._evaluate import evaluator, outputs_name
from flstore.workloads._metadata import DURATION, EXAMPLES, LOSS, metadata_needs, number
from flstore.workloads._outputs import ahead, outputs, update_keys
from flstore.workloads._params import check_choice, check_integer, check_positive
from flstore.workloads._plot import start
from flstore.workloads._scores import check_precision, check_task
from flstore.workloads.base import Catalogue, Inputs, Piecewise, Scope, require_round

BY = ("accuracy", "oort")


@dataclass(frozen=True, eq=False, repr=False)
class SchedulingPerformanceResult(Tabular):
    """Who should train next, and why.

    Attributes
    ----------
    chosen : list of str, length count
        With "accuracy" the best first; with "oort" the exploited, then the explored ones, in the order of the draw.
    clients : list of str, length n
        All that could be chosen, sorted; the order of what follows.
    score : ndarray of float64, shape (n,)
        The metric, or Oort's utility; NaN for a client in `nonfinite`, and for one that Oort has not explored.
    why : list of str
        "best", "exploited" or "explored" for the chosen, "" for the others.
    details : dict of str to list, each of length n
        With "oort" the last report of each: round, examples, loss, duration_s; None where there is none.
    by : str
        As asked for.
    nonfinite : list of str
        Clients whose update gives outputs with NaN or infinities (or that reported such a loss); they are not chosen.
    """

    chosen: list[str]
    clients: list[str]
    score: NDArray[np.float64]
    why: list[str]
    details: dict[str, list[Any]]
    by: str
    nonfinite: list[str]

    def frame(self) -> Any:
        """One row a client, by falling score."""
        import pandas as pd

        columns = {"score": self.score, "why": self.why, **self.details}
        table = pd.DataFrame(columns, index=pd.Index(self.clients, name="client"))
        return table.sort_values("score", ascending=False, kind="stable")

    def plot(self, ax: Any = None) -> Any:
        """The scores, coloured by why a client was chosen; returns the axes."""
        seaborn, ax = start(ax, "SchedulingPerformanceResult.plot", (6.0, 3.5))
        table = self.frame().reset_index()
        table["why"] = table["why"].replace("", "not chosen")
        seaborn.barplot(table, x="client", y="score", hue="why", dodge=False, ax=ax)
        ax.set(title=f"Scheduling by {self.by}")
        return ax


@dataclass(frozen=True)
class SchedulingPerformance(Piecewise):
    """Choose clients for the next round by performance (class P2), or by Oort from metadata alone (class P4).

    ``by="accuracy"``, what the paper measures (Figure 7): every update of the round is evaluated on held-out data, and
    the best are chosen. ``by="oort"`` reads no updates: the utility of a client is |B| sqrt(mean of squared losses),
    clipped and scaled to [0, 1], plus sqrt(0.1 ln R / last round), times (T / duration)^penalty for those slower
    than T. A share of the choice goes to clients that have not reported yet, the rest is drawn by utility among those
    whose utility is near the best.

    Parameters
    ----------
    count : int
        How many to choose.
    by : {"accuracy", "oort"}
        The class of the access pattern follows from it.
    model, data, metric, precision : str
        For "accuracy": the task (``store.task``). Every metric is the better the higher ("loss" with its sign turned).
    last : int
        For "oort": how many rounds of metadata to read, up to ``round=`` or the newest.
    candidates : sequence of str, optional
        For "oort": who can be chosen. Those without a loss and a number of examples in these rounds are unexplored.
        Default: the clients in the metadata.
    exploration : float, optional
        For "oort": the share of unexplored clients, in [0, 1]. Default: 0.9, 2 % less each round, at least 0.2.
    preferred_s : float, optional
        For "oort": T. Default: the 30 % quantile of the last durations (``duration_s``).
    penalty : float
        For "oort": alpha, at least 0.
    seed : int
        For "oort": of the draws.

    Notes
    -----
    Oort keeps its state between rounds; here it is read from the metadata each time. So its pacer, which relaxes T
    while training goes on, and its blacklist are left to the caller. Metadata has a client's mean loss, not the loss of
    every example, and the root of the mean of squares is at least that.

    References
    ----------
    Lai, Zhu, Madhyastha, Chowdhury: Oort: Efficient Federated Learning via Guided Participant Selection. OSDI 2021,
    section 4.2 to 4.4 and algorithm 1. Chai et al.: TiFL. HPDC 2020. Khan et al.: FLStore. MLSys 2025, Table 1
    (scheduling in P2, tracking client resources for scheduling in P4).

    Examples
    --------
    >>> from flstore.testing.sample_job import sample_job
    >>> job = sample_job()
    >>> scope, oort = Scope(job.name), SchedulingPerformance(by="oort", count=3, candidates=["c0", "c1", "c9"])
    >>> result = oort.compute(Inputs(scope, {key: job.read(key) for key in oort.needs(scope, job)}))
    >>> sorted(result.chosen), oort.policy_class
    (['c0', 'c1', 'c9'], <PolicyClass.P4: 'P4'>)

    With a store: ``store.request("scheduling_performance", by="oort", count=3).value.chosen``
    """

    name: ClassVar[str] = "scheduling_performance"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = SchedulingPerformanceResult

    count: int = 3
    by: str = "accuracy"
    model: str | None = None
    data: str | None = None
    metric: str | None = None
    last: int = 10
    candidates: Sequence[str] | None = None
    exploration: float | None = None
    preferred_s: float | None = None
    penalty: float = 2.0
    seed: int = 0
    precision: str | None = None

    def __post_init__(self) -> None:
        check_integer(self.name, "count", self.count, 1)
        check_choice(self.name, "by", self.by, BY)
        check_precision(self.name, self.precision)
        check_integer(self.name, "last", self.last, 1)
        check_integer(self.name, "seed", self.seed, 0)
        if self.by == "oort":
            object.__setattr__(self, "policy_class", PolicyClass.P4)
            object.__setattr__(self, "in_engine", True)
        else:
            check_task(self.name, self.model, self.data, self.metric or "accuracy")
        self._check_oort()

    def _check_oort(self) -> None:
        if self.preferred_s is not None:
            check_positive(self.name, "preferred_s", self.preferred_s)
        for name, value, most in (("exploration", self.exploration, 1.0), ("penalty", self.penalty, math.inf)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise InvalidParameterError(f"{self.name}: {name} is a number, not {value!r}")
            if value is not None and not (0 <= value <= most and math.isfinite(value)):
                limit = "at least 0 and finite" if most == math.inf else f"between 0 and {most:g}"
                raise InvalidParameterError(f"{self.name}: {name}={value} is out of range; it must be {limit}")
        if self.candidates is not None:
            if isinstance(self.candidates, str) or not all(isinstance(client, str) for client in self.candidates):
                raise InvalidParameterError(f"{self.name}: candidates is a list of client ids, not {self.candidates!r}")
            object.__setattr__(self, "candidates", tuple(sorted(set(self.candidates))))

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        if self.by == "oort":
            keys = metadata_needs(self.name, self.last, scope, catalogue)
            self._enough(self.candidates or {key.client for key in keys}, "clients that could be chosen")
            return keys
        round = require_round(self.name, scope)
        clients = catalogue.clients(round)
        self._enough(clients, f"clients in round {round}")
        return [Key(scope.job, Kind.UPDATE, round, client) for client in clients]

    @property
    def piece(self) -> str:
        return outputs_name(self.model, self.data, self.precision) if self.by == "accuracy" else ""

    def ahead(self, inputs: Inputs) -> Iterator[None]:
        judge = evaluator(self.name, str(self.model), str(self.data), self.precision)
        return ahead(judge, inputs, require_round(self.name, inputs.scope))

    def compute(self, inputs: Inputs) -> SchedulingPerformanceResult:
        return self._oort(inputs) if self.by == "oort" else self._best(inputs)

    def _enough(self, clients: Any, what: str) -> None:
        if self.count > len(clients):
            raise InvalidParameterError(f"{self.name}: count={self.count}, but there are {len(clients)} {what}")

    def _best(self, inputs: Inputs) -> SchedulingPerformanceResult:
        keys = update_keys(inputs, require_round(self.name, inputs.scope))
        judge = evaluator(self.name, str(self.model), str(self.data), self.precision)
        score = np.full(len(keys), np.nan)
        for i, given in enumerate(outputs(judge, inputs, keys)):
            if np.isfinite(given).all():
                score[i] = judge.judge(given, self.metric or "accuracy")
        clients, finite = [str(key.client) for key in keys], np.isfinite(score)
        self._enough(np.flatnonzero(finite), "clients whose updates give finite outputs")
        chosen = [clients[i] for i in np.argsort(-score, kind="stable")[: self.count]]
        return SchedulingPerformanceResult(
            chosen=chosen,
            clients=clients,
            score=score,
            why=["best" if client in chosen else "" for client in clients],
            details={},
            by=self.by,
            nonfinite=[client for client, good in zip(clients, finite, strict=True) if not good],
        )

    def _oort(self, inputs: Inputs) -> SchedulingPerformanceResult:
        rows = inputs.metadata()
        clients = sorted(self.candidates or {row["client"] for row in rows})
        possible = set(clients)
        last = {row["client"]: row for row in rows if row["client"] in possible}  # rows are sorted by round
        reports, nonfinite = _reports(rows, possible)
        able = [client for client in clients if client not in nonfinite]
        self._enough(able, "clients that reported no loss that is not finite")
        fresh = [client for client in able if client not in reports]
        now = max(row["round"] for row in rows) + 1
        share = _oort.exploration_at(now) if self.exploration is None else self.exploration
        explored = max(min(len(fresh), int(share * self.count)), self.count - len(reports))
        known = list(reports.values())
        preferred_s = self.preferred_s or _oort.preferred_duration(known)
        utility = _oort.utilities(known, now, preferred_s, self.penalty) if known else np.empty(0)
        random = np.random.default_rng(self.seed)
        exploited = [known[i].client for i in _oort.exploit(utility, self.count - explored, random)]
        waits = np.array([_duration(last.get(client, {})) for client in fresh])
        found = [fresh[i] for i in _oort.explore(waits, explored, random)]
        why = dict.fromkeys(exploited, "exploited") | dict.fromkeys(found, "explored")
        score = {report.client: value for report, value in zip(known, utility.tolist(), strict=True)}
        return SchedulingPerformanceResult(
            chosen=exploited + found,
            clients=clients,
            score=np.array([score.get(client, np.nan) for client in clients]),
            why=[why.get(client, "") for client in clients],
            details=_details(clients, reports),
            by=self.by,
            nonfinite=nonfinite,
        )


def _reports(rows: Sequence[Mapping[str, Any]], clients: Collection[str]) -> tuple[dict[str, _oort.Report], list[str]]:
    """The last whole report of each client, and who reported a loss last that is not finite."""
    reports: dict[str, _oort.Report] = {}
    odd: dict[str, bool] = {}
    for row in rows:
        client, examples, loss = row["client"], number(row, EXAMPLES), number(row, LOSS)
        if client in clients and examples is not None:
            odd[client] = loss is None and any(_not_finite(row.get(name)) for name in LOSS)
            if loss is not None:
                reports[client] = _oort.Report(client, row["round"], examples, loss, _duration(row))
    nonfinite = sorted(client for client, bad in odd.items() if bad)
    return {client: reports[client] for client in sorted(set(reports) - set(nonfinite))}, nonfinite


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _duration(row: Mapping[str, Any]) -> float:
    found = number(row, DURATION)
    return math.nan if found is None else found


def _details(clients: Sequence[str], reports: Mapping[str, _oort.Report]) -> dict[str, list[Any]]:
    fields = ("round", "examples", "loss", "duration_s")
    return {field: [getattr(reports.get(client), field, None) for client in clients] for field in fields}
