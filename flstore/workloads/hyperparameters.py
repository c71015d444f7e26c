"""How clients trained in recent rounds: their hyperparameters and metrics, from metadata alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError
from flstore.types import Key, Kind, PolicyClass
from flstore.workloads._metadata import metadata_needs
from flstore.workloads._params import check_integer
from flstore.workloads._plot import start
from flstore.workloads.base import Catalogue, Inputs, Scope, Workload


@dataclass(frozen=True, eq=False, repr=False)
class HyperparametersResult(Tabular):
    """What is known of each client's work, one row a (round, client).

    Attributes
    ----------
    rounds, clients : list, length n
        Round and client of each row, sorted by them.
    columns : dict of str to list, each of length n
        Values by field; None where a client has no such field.
    varying : list of str
        Fields whose value is not the same in all rows, sorted.
    """

    rounds: list[int]
    clients: list[str]
    columns: dict[str, list[Any]]
    varying: list[str]

    def frame(self) -> Any:
        """A DataFrame indexed by (round, client), a column a field, NaN where a value is missing."""
        import pandas as pd

        index = pd.MultiIndex.from_arrays([self.rounds, self.clients], names=["round", "client"])
        columns = {name: pd.Series(values, index=index) for name, values in self.columns.items()}
        return pd.DataFrame(columns, index=index)

    def numeric(self) -> list[str]:
        """Fields that hold numbers only."""
        return [name for name, values in self.columns.items() if _numeric(values)]

    def summary(self) -> Any:
        """Mean and standard deviation (n - 1) of the numeric fields over the clients of each round."""
        table = self.frame()[self.numeric()].astype(float)
        return table.groupby(level="round").agg(["mean", "std"])

    def plot(self, field: str | None = None, ax: Any = None) -> Any:
        """One numeric field over the rounds, mean and spread over clients; returns the axes.

        Parameters
        ----------
        field : str, optional
            Default: the first numeric one that varies.

        Raises
        ------
        InvalidParameterError
            No such numeric field.
        """
        numeric = self.numeric()
        if field is None:
            field = next((name for name in numeric if name in self.varying), numeric[0] if numeric else None)
        if field not in numeric:
            raise InvalidParameterError(f"there is no numeric field {field!r} to plot; numeric: {', '.join(numeric)}")
        seaborn, ax = start(ax, "HyperparametersResult.plot", (6.0, 3.5))
        table = self.frame()[[field]].astype(float).reset_index()
        seaborn.lineplot(table, x="round", y=field, errorbar="sd", marker="o", ax=ax)
        ax.set(title=f"{field} over clients (mean, standard deviation)")
        return ax


@dataclass(frozen=True)
class Hyperparameters(Workload):
    """Hyperparameters and metrics of recent rounds (class P4), from metadata alone.

    With ``round=r`` the last rounds up to r, else up to the newest; with ``rounds=[...]`` those; with ``client=`` that
    client's rows only. Rounds without metadata are passed over.

    Parameters
    ----------
    last : int
        How many rounds to look back.

    References
    ----------
    Khan et al.: FLStore: Efficient Federated Learning Storage for Non-training Workloads. MLSys 2025, Table 1 (P4).

    Examples
    --------
    ``store.request("hyperparameters", last=20).value.summary()``

    >>> from flstore.testing.sample_job import sample_job
    >>> sample_job().ask(Hyperparameters(last=2)).varying
    ['accuracy', 'examples', 'loss', 'lr']
    """

    name: ClassVar[str] = "hyperparameters"
    policy_class: ClassVar[PolicyClass] = PolicyClass.P4
    result_type: ClassVar[type] = HyperparametersResult

    last: int = 10

    def __post_init__(self) -> None:
        check_integer(self.name, "last", self.last, 1)

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        return metadata_needs(self.name, self.last, scope, catalogue)

    def compute(self, inputs: Inputs) -> HyperparametersResult:
        found = {(k.round, str(k.client)): v for k, v in inputs.data.items() if k.kind is Kind.METADATA}
        rows = sorted(found)
        fields = dict.fromkeys(field for row in rows for field in found[row])
        columns = {field: [found[row].get(field) for row in rows] for field in fields}
        # By repr: a NaN equals itself here, and lists can be compared.
        varying = sorted(f for f, values in columns.items() if len({repr(value) for value in values}) > 1)
        return HyperparametersResult([r for r, _ in rows], [c for _, c in rows], columns, varying)


def _numeric(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, Real) and not isinstance(value, bool) for value in known)
