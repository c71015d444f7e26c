"""Which clients of a round sent a suspicious update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError
from flstore.types import Key, PolicyClass
from flstore.workloads import _krum
from flstore.workloads._gram import Matrix, nonfinite_rows, norms
from flstore.workloads._params import check_choice, check_integer, check_positive
from flstore.workloads._plot import start
from flstore.workloads._round import OF, round_needs, round_updates
from flstore.workloads.base import Additive, Catalogue, Inputs, Scope

FEWEST_TO_JUDGE = 4
"""With fewer finite updates nobody is called an outlier: a majority of two or less is none."""
_TENTH = 0.1
# At the default threshold of 3.5 a norm within a factor of two of the median is never an outlier, beyond five always.
_NORM_UNITS = float(np.log(2)) / 3.5, float(np.log(5)) / 3.5
# Scores of nearly equal weights differ by rounding only; below this they are the same.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class MaliciousFilteringResult(Tabular):
    """Scores of a round's clients, and who stands out.

    Attributes
    ----------
    clients : list of str, length n
        Sorted; the order of all arrays and of `reasons`.
    score : ndarray of float64, shape (n,)
        What the method ranks by, higher is more suspicious: 1 - `cosine_to_centre`, or `krum`.
    krum : ndarray of float64, shape (n,)
        Krum scores: squared distances to the nearest others, summed.
    cosine_to_centre : ndarray of float64, shape (n,)
        Cosine to the mean of the other clients that Multi-Krum selects.
    norms : ndarray of float64, shape (n,)
        Euclidean norms of the compared vectors.
    flagged : list of str
        Suspicious clients, sorted.
    reasons : list of str, length n
        Why: "direction", "distance", "norm" (joined by ", "), "nonfinite", or "".
    nonfinite : list of str
        Clients whose update has NaN or infinities; their scores are NaN.
    of, method : str
        What was compared ("delta" or "model"), and by which score.
    byzantine : int
        The number f of faulty clients that Krum allowed for, among the finite ones.
    """

    clients: list[str]
    score: NDArray[np.float64]
    krum: NDArray[np.float64]
    cosine_to_centre: NDArray[np.float64]
    norms: NDArray[np.float64]
    flagged: list[str]
    reasons: list[str]
    nonfinite: list[str]
    of: str
    method: str
    byzantine: int

    def frame(self) -> Any:
        """One row a client, the most suspicious first."""
        import pandas as pd

        columns = {
            "flagged": [bool(reason) for reason in self.reasons],
            "reason": self.reasons,
            "score": self.score,
            "krum": self.krum,
            "cosine_to_centre": self.cosine_to_centre,
            "norm": self.norms,
        }
        table = pd.DataFrame(columns, index=pd.Index(self.clients, name="client"))
        return table.sort_values(["flagged", "score"], ascending=False, kind="stable")

    def plot(self, ax: Any = None) -> Any:
        """Scores as bars, flagged clients in another colour; returns the axes."""
        seaborn, ax = start(ax, "MaliciousFilteringResult.plot", (6.0, 3.5))
        table = self.frame().reset_index()
        seaborn.barplot(table, x="client", y="score", hue="flagged", dodge=False, palette="colorblind", ax=ax)
        ax.set(title=f"Suspicion ({self.method}, {self.of})", xlabel="client", ylabel="score")
        return ax


@dataclass(frozen=True)
class MaliciousFiltering(Additive):
    """Find suspicious client updates of a round (class P2), from their inner products alone.

    The centre is the mean of the n - f updates with the lowest Krum scores (Multi-Krum). A client is flagged when

    - its update has NaN or infinities: always, and it is kept out of all that follows; or
    - its score is an outlier upwards: more than `threshold` times 1.4826 MAD above the median (the modified z-score).
      The unit is at least a tenth of the median, because clients that nearly agree have a MAD near zero; or
    - its norm is an outlier either way, by the same rule for log(norm), its unit between log(2) / 3.5 and log(5) / 3.5:
      scaling does not change a direction. At the default threshold nobody within a factor of two of the median norm is
      flagged for it, and everybody beyond a factor of five is.

    Among fewer than four finite updates only the first rule holds. A Krum score grows with the norm, so "krum" tells a
    wrong direction from a long honest step only where steps are about equally long; "cosine" does not mind.

    Parameters
    ----------
    of : {"delta", "model"}, optional
        As in ``cosine_similarity``. Directions say little about whole models.
    method : {"cosine", "krum"}
        The score: 1 - cosine to the centre, or the Krum score.
    byzantine : int, optional
        How many faulty clients (f) to allow for; 2 f + 2 < n. Default: the most that Krum tolerates, (n - 3) // 2.
        Clients in `nonfinite` count among them.
    threshold : float
        In units of 1.4826 MAD; 3.5 is Iglewicz and Hoaglin's.

    References
    ----------
    Blanchard, El Mhamdi, Guerraoui, Stainer: Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent.
    NeurIPS 2017. Iglewicz, Hoaglin: How to Detect and Handle Outliers. ASQC 1993.

    Examples
    --------
    ``store.request("malicious_filtering", round=7, method="krum").value.flagged``

    >>> from flstore.testing.sample_job import sample_job
    >>> result = sample_job().ask(MaliciousFiltering(), round=3)
    >>> result.flagged, result.byzantine
    ([], 1)
    """

    name: ClassVar[str] = "malicious_filtering"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P2
    result_type: ClassVar[type] = MaliciousFilteringResult

    of: str | None = None
    method: str = "cosine"
    byzantine: int | None = None
    threshold: float = 3.5

    def __post_init__(self) -> None:
        check_choice(self.name, "of", self.of, OF)
        check_choice(self.name, "method", self.method, ("cosine", "krum"))
        check_positive(self.name, "threshold", self.threshold)
        if self.byzantine is not None:
            check_integer(self.name, "byzantine", self.byzantine, 0)

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        keys = round_needs(self.name, self.of, scope, catalogue)
        clients = sum(key.client is not None for key in keys)
        if self.byzantine and 2 * self.byzantine + 2 >= clients:
            raise InvalidParameterError(
                f"{self.name}: byzantine={self.byzantine} of {clients} clients; Krum tolerates at most "
                f"{_krum.most_byzantine(clients)} (2 f + 2 < n)"
            )
        return keys

    def partial(self, inputs: Inputs) -> dict[str, Any]:
        return round_updates(self.name, self.of, inputs).products()

    def finish(self, scope: Scope, total: Mapping[str, Any]) -> MaliciousFilteringResult:
        products, clients = total["products"], total["clients"]
        bad = nonfinite_rows(products)
        kept = products[np.ix_(~bad, ~bad)]
        byzantine = self._tolerated(len(kept), int(bad.sum()))
        krum = _krum.krum_scores(kept, byzantine)
        selected = np.argsort(krum, kind="stable")[: len(kept) - byzantine]
        similarity = _krum.cosine_to_centre(kept, selected)
        score = 1.0 - similarity if self.method == "cosine" else krum
        reasons = np.full(len(bad), "nonfinite", dtype=object)
        reasons[~bad] = self._reasons(score, norms(kept))

        def everyone(values: Matrix) -> Matrix:
            whole = np.full(len(bad), np.nan)
            whole[~bad] = values
            return whole

        return MaliciousFilteringResult(
            clients=clients,
            score=everyone(score),
            krum=everyone(krum),
            cosine_to_centre=everyone(similarity),
            norms=norms(products),
            flagged=[client for client, reason in zip(clients, reasons, strict=True) if reason],
            reasons=reasons.tolist(),
            nonfinite=[client for client, odd in zip(clients, bad, strict=True) if odd],
            of=total["of"],
            method=self.method,
            byzantine=byzantine,
        )

    def _tolerated(self, finite: int, nonfinite: int) -> int:
        most = _krum.most_byzantine(finite)
        return most if self.byzantine is None else min(most, max(0, self.byzantine - nonfinite))

    def _reasons(self, score: Matrix, lengths: Matrix) -> list[str]:
        if len(score) < FEWEST_TO_JUDGE:
            return [""] * len(score)
        sizes = np.log(np.maximum(lengths, np.finfo(np.float64).tiny))
        far = _krum.robust_z(score, max(_TENTH * float(np.median(score)), _ROUNDING)) > self.threshold
        odd = np.abs(_krum.robust_z(sizes, *_NORM_UNITS)) > self.threshold
        word = "direction" if self.method == "cosine" else "distance"
        return [", ".join(w for w, true in ((word, f), ("norm", o)) if true) for f, o in zip(far, odd, strict=True)]
