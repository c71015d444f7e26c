"""How clients trained in recent rounds: their hyperparameters and metrics, from metadata alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from operator import itemgetter
from typing import Any, ClassVar

from flstore.display.table import Tabular
from flstore.errors import InvalidParameterError
from flstore.types import Key, PolicyClass
from flstore.workloads._metadata import metadata_needs, sorted_metadata
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
    in_engine: ClassVar[bool] = True

    last: int = 10

    def __post_init__(self) -> None:
        check_integer(self.name, "last", self.last, 1)

    def needs(self, scope: Scope, catalogue: Catalogue) -> list[Key]:
        return metadata_needs(self.name, self.last, scope, catalogue)

    def compute(self, inputs: Inputs) -> HyperparametersResult:
        found = sorted_metadata(inputs)
        columns = _columns([row for _, row in found])
        varying = sorted([field for field, values in columns.items() if _varies(values)])
        return HyperparametersResult([k.round for k, _ in found], [str(k.client) for k, _ in found], columns, varying)


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Values by field, None where a row lacks one; fields in the order in which they are met."""
    fields = tuple(rows[0]) if rows else ()
    if len(fields) > 1 and {len(fields)} == set(map(len, rows)):
        try:  # as a rule all rows have the same fields, and then no row need be asked for each
            return dict(zip(fields, map(list, zip(*map(itemgetter(*fields), rows), strict=True)), strict=True))
        except KeyError:
            pass
    every = dict.fromkeys(field for row in rows for field in row)
    return {field: [row.get(field) for row in rows] for field in every}


def _varies(values: Sequence[Any]) -> bool:
    """By repr: a NaN equals itself here, 1 is not 1.0, and lists can be compared."""
    first = values[0]
    if (first != 0 or type(first) is int) and values.count(first) == len(values):
        types = set(map(type, values))
        if len(types) == 1 and types <= {int, float, str, bool}:
            return False  # these look alike when they are equal (but for 0.0 and -0.0), and counting is faster
    return any(value is not first and _differ(value, first) for value in values)


def _differ(value: Any, other: Any) -> bool:
    if type(value) is type(other) and value != other and isinstance(value, int | float | str):
        return bool(value == value or other == other)  # two NaN look alike
    return repr(value) != repr(other)


def _numeric(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, Real) and not isinstance(value, bool) for value in known)
