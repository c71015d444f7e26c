"""What one client sent, round after round."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from flstore.codec import ClientUpdate
from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError, UpdateNotFoundError
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads._gram import add_products, flat, is_floating
from flstore.workloads._params import check_integer
from flstore.workloads._plot import start
from flstore.workloads.base import Catalogue, Inputs, Scope, Workload, require_client


@dataclass(frozen=True, eq=False, repr=False)
class LineageResult(Tabular):
    """One client's updates, oldest first, and how each differs from the one before.

    Attributes
    ----------
    client : str
        Whose.
    rounds : list of int, length m
        Rounds, ascending; the order of everything else.
    checksums : list of str
        Of the stored objects; equal checksums mean equal bytes.
    sizes_bytes : list of int
        Sizes of the stored objects.
    norms : ndarray of float64, shape (m,)
        Euclidean norms of the floating-point tensors, as one vector.
    change : ndarray of float64, shape (m,)
        Euclidean distance from the update before; NaN for the first, and where the tensors are not the same ones.
    cosine : ndarray of float64, shape (m,)
        Cosine with the update before; NaN likewise, 0 with a zero vector.
    most_changed : list of list of str
        Names of the tensors that changed most, the most changed first; tensors that did not change are left out.
    """

    client: str
    rounds: list[int]
    checksums: list[str]
    sizes_bytes: list[int]
    norms: NDArray[np.float64]
    change: NDArray[np.float64]
    cosine: NDArray[np.float64]
    most_changed: list[list[str]]

    def frame(self) -> Any:
        """One row a round."""
        import pandas as pd

        columns = {
            "checksum": self.checksums,
            "size_bytes": self.sizes_bytes,
            "norm": self.norms,
            "change": self.change,
            "cosine": self.cosine,
            "most_changed": [", ".join(names) for names in self.most_changed],
        }
        return pd.DataFrame(columns, index=pd.Index(self.rounds, name="round"))

    def plot(self, ax: Any = None) -> Any:
        """The change from update to update over the rounds; returns the axes."""
        seaborn, ax = start(ax, "LineageResult.plot", (6.0, 3.5))
        seaborn.lineplot(self.frame().reset_index(), x="round", y="change", marker="o", ax=ax)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(title=f"Client {self.client}", xlabel="round", ylabel="change from the previous update (L2)")
        return ax


@dataclass(frozen=True)
class Lineage(Workload):
    """Trace one client's updates across rounds (class P3): provenance, debugging, reproducibility.

    With ``round=r`` it reads the update of round r and the client's previous one; with ``rounds=[...]`` those rounds;
    with neither, all in which the client took part. Always with ``client=``.

    Parameters
    ----------
    top : int
        How many tensor names to report a round as the most changed.

    References
    ----------
    Baracaldo et al.: Towards an Accountable and Reproducible Federated Learning: A FactSheets Approach. 2022
    (arXiv:2202.12443).

    Examples
    --------
    ``store.request("lineage", client="7").value.frame()``

    >>> from flstore.testing.sample_job import sample_job
    >>> sample_job().ask(Lineage(top=1), client="c1").most_changed
    [[], ['dense.weight'], ['dense.weight'], ['dense.weight']]
    """

    name: ClassVar[str] = "lineage"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P3
    result_type: ClassVar[type] = LineageResult

    top: int = 3

    def __post_init__(self) -> None:
        check_integer(self.name, "top", self.top, 0)

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        client = require_client(self.name, scope)
        if scope.round is not None and scope.rounds is not None:
            raise InvalidParameterError(
                f"{self.name} takes round={scope.round} (with the one before) or rounds={list(scope.rounds)}, not both"
            )
        took_part = catalogue.rounds_of(client)
        wanted = sorted(set(took_part if scope.rounds is None else scope.rounds))
        if scope.round is not None:
            wanted = [*[r for r in took_part if r < scope.round][-1:], scope.round]
        absent = sorted(set(wanted) - set(took_part))
        if absent:
            raise _absent(client, absent[0], took_part)
        if not wanted:
            raise InvalidParameterError(f"{self.name}: rounds is empty; leave it out for all rounds of {client!r}")
        return [Key(scope.job, Kind.UPDATE, round, client) for round in wanted]

    def compute(self, inputs: Inputs) -> LineageResult:
        client = require_client(self.name, inputs.scope)
        history = inputs.history(client)
        updates = list(history.values())
        steps = [_Step.between(before, now) for before, now in zip([None, *updates[:-1]], updates, strict=True)]
        return LineageResult(
            client=client,
            rounds=list(history),
            checksums=[update.checksum for update in updates],
            sizes_bytes=[update.size_bytes for update in updates],
            norms=np.sqrt([step.square for step in steps]),
            change=np.sqrt([step.change_square for step in steps]),
            cosine=np.array(_cosines(steps)),
            most_changed=[step.most_changed[: self.top] for step in steps],
        )


@dataclass(frozen=True)
class _Step:
    """Sums over one update and its difference from the one before."""

    square: float
    inner: float
    change_square: float
    most_changed: list[str]

    @classmethod
    def between(cls, before: ClientUpdate | None, now: ClientUpdate) -> _Step:
        names = [name for name, tensor in now.items() if is_floating(tensor.dtype.name)]
        if before is None or _shapes(before) != _shapes(now):
            return cls(sum(_sums(now[name], None)[0] for name in names), np.nan, np.nan, [])
        sums = {name: _sums(now[name], before[name]) for name in names}
        square, inner, change = (sum(values[i] for values in sums.values()) for i in range(3))
        # A NaN sorts nowhere; a tensor that became NaN has changed more than any other.
        order = sorted(names, key=lambda name: -np.nan_to_num(sums[name][2], nan=np.inf))
        return cls(square, inner, change, [name for name in order if sums[name][2] != 0])


def _shapes(update: ClientUpdate) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in update.items() if is_floating(tensor.dtype.name)}


def _sums(now: NDArray[Any], before: NDArray[Any] | None) -> tuple[float, float, float]:
    """now . now, now . before and |now - before|^2 of a tensor."""
    products, change = np.zeros((2, 2)), np.zeros((1, 1))
    line = flat(now)
    past = line if before is None else flat(before)
    if line.dtype != past.dtype:
        line, past = line.astype(np.float64), past.astype(np.float64)
    if line.size:
        with np.errstate(all="ignore"):
            add_products(products, [line, past], None)
            add_products(change, [line], past)
    return float(products[0, 0]), float(products[0, 1]), float(change[0, 0])


def _cosines(steps: Sequence[_Step]) -> list[float]:
    cosines = [float("nan")]
    for before, now in itertools.pairwise(steps):
        lengths = float(np.sqrt(before.square) * np.sqrt(now.square))
        inner = now.inner if lengths == 0 else now.inner / lengths
        cosines.append(float(np.clip(inner, -1.0, 1.0)))
    return cosines


def _absent(client: str, round: int, took_part: Sequence[int]) -> UpdateNotFoundError:
    near = sorted(sorted(took_part, key=lambda r: abs(r - round))[:6])
    return UpdateNotFoundError(
        f"client {client!r} has no update in round {round}; it took part in {len(took_part)} rounds, the nearest: "
        f"{', '.join(map(str, near))}"
    )
