"""All that is known of clients' work as one table: a row a (round, client), the same first columns everywhere.

What a column is called depends on the framework and on the user; :data:`flstore.workloads._metadata.FIELDS` says
which names mean the same. The columns of that table always come first, always with the same dtypes, empty where
nobody said anything; then comes everything else, under the names under which it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from flstore.persistence.tables import CLIENT, OTHER, other_fields
from flstore.workloads._metadata import FIELDS

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

COUNTS = frozenset(["samples", "eval_samples", "bytes", "batch_size", "memory_bytes"])
"""Standard columns of whole numbers (Int64); ``available`` is boolean, all others are float64."""


def frame(rounds: Sequence[tuple[int, pa.Table, Mapping[str, int]]]) -> pd.DataFrame:
    """The table of some rounds.

    Parameters
    ----------
    rounds : sequence of (int, Table, dict of client to int)
        Of each round its number, its metadata by column, and the bytes of the updates that are stored. A client that
        sent an update and no metadata has a row as well.

    Returns
    -------
    DataFrame
        Indexed by (round, client), sorted. Integers and booleans with gaps have pandas' nullable dtypes.
    """
    import pandas as pd

    tables = [_with_clients(table, sizes) for _, table, sizes in rounds]
    numbers = [number for (number, _, _), table in zip(rounds, tables, strict=True) for _ in range(len(table))]
    clients = [client for table in tables for client in table.column(CLIENT).to_pylist()]
    index = pd.MultiIndex.from_arrays([pd.array(numbers, "int64"), pd.array(clients, "str")], names=["round", "client"])
    columns = _columns(tables)
    sizes = {number: sizes for number, _, sizes in rounds}
    stored = pd.array([sizes[r].get(c) for r, c in zip(numbers, clients, strict=True)], "Int64")
    standard = _standard(columns, pd.Series(stored, range(len(index))))
    return pd.DataFrame({**standard, **columns}).set_axis(index)


def given(name: str) -> str:
    """The column of a field that has the name of another column and says something else."""
    return f"{name} (given)"


def _with_clients(table: pa.Table, clients: Iterable[str]) -> pa.Table:
    """The table with a row for each of these clients, sorted by client."""
    import pyarrow as pa

    if missing := sorted(set(clients).difference(table.column(CLIENT).to_pylist())):
        more = pa.table({CLIENT: pa.array(missing, pa.string())})
        return pa.concat_tables([table, more], promote_options="permissive").sort_by(CLIENT)
    return table


def _columns(tables: Sequence[pa.Table]) -> dict[str, pd.Series[Any]]:
    """Every field of tables that lie below each other."""
    import pandas as pd
    import pyarrow as pa

    kinds: dict[str, set[Any]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    odd = {name for name, types in kinds.items() if len(types) > 1 and types != {pa.int64(), pa.float64()}}
    others: dict[str, dict[int, Any]] = {name: {} for name in odd}
    at, plain = 0, []
    for table in tables:
        for name in odd.intersection(table.column_names):
            cells = enumerate(table.column(name).to_pylist(), at)
            others[name].update((i, value) for i, value in cells if value is not None)
        for i, fields in other_fields(table):
            for name, value in fields.items():
                others.setdefault(name, {})[at + i] = value
        at += len(table)
        plain.append(table.drop_columns([n for n in table.column_names if n == OTHER or n in odd]))
    whole = pa.concat_tables(plain, promote_options="permissive") if plain else pa.table({CLIENT: []})
    columns = {name: _series(whole.column(name)) for name in whole.column_names if name != CLIENT}
    for name, values in others.items():
        columns[name] = _overridden(columns.get(name, pd.Series(float("nan"), range(at), dtype=object)), values)
    return {given(name) if name in ("round", "client") else name: column for name, column in columns.items()}


def _series(column: pa.ChunkedArray) -> pd.Series[Any]:
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_string(column.type):
        return pd.Series(column.to_pandas(), dtype="str")
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()} if column.null_count else {}
    series: pd.Series[Any] = column.to_pandas(types_mapper=nullable.get)
    return series


def _overridden(series: pd.Series[Any], values: Mapping[int, Any]) -> pd.Series[Any]:
    """A column with the values that it cannot hold as they are; it stays as it is where it says as much."""
    import pandas as pd

    is_float = series.dtype == "float64"
    new = {
        i: value
        for i, value in values.items()
        if value is not None and not (is_float and type(value) is int and series.iat[i] == value)
    }
    if not new and series.dtype != object:
        return series
    cells: list[Any] = [float("nan") if missing else v for v, missing in zip(series, series.isna(), strict=True)]
    for i, value in new.items():
        cells[i] = value
    return pd.Series(cells, series.index, dtype=object).infer_objects()


def _standard(columns: dict[str, pd.Series[Any]], stored: pd.Series[Any]) -> dict[str, pd.Series[Any]]:
    """The columns of FIELDS; takes their namesakes out of `columns`, or renames them when they say something else."""
    import pandas as pd

    made: dict[str, pd.Series[Any]] = {}
    for name, fields in FIELDS.items():
        dtype = "boolean" if name == "available" else "Int64" if name in COUNTS else "float64"
        found: pd.Series[Any] = pd.Series(pd.NA if dtype != "float64" else float("nan"), stored.index, dtype=dtype)
        for field in fields:
            if field in columns:
                found = found.where(found.notna(), _as(columns[field], dtype))
        if name == "bytes":
            found = found.where(found.notna(), stored)
        if name == "available":
            found = found.where(found.notna(), _answered(columns, stored))
        if name in columns and not _says(found, column := columns.pop(name)):
            columns[given(name)] = column
        made[name] = found
    return made


def _answered(columns: Mapping[str, pd.Series[Any]], stored: pd.Series[Any]) -> pd.Series[Any]:
    """Whose update is stored was there; who has none and an error was not."""
    import pandas as pd

    failed = columns["error"].notna() if "error" in columns else pd.Series(False, stored.index)
    answers = zip(stored.notna(), failed, strict=True)
    return pd.Series([True if there else False if error else None for there, error in answers], dtype="boolean")


def _as(series: pd.Series[Any], dtype: str) -> pd.Series[Any]:
    """The values that are of a dtype's kind, the rest missing."""
    import pandas as pd
    from pandas.api import types

    fitting: list[Any]
    if types.is_bool_dtype(series.dtype) or dtype == "boolean":
        if types.is_bool_dtype(series.dtype) and dtype == "boolean":
            return series.astype("boolean")
        fitting = [v if dtype == "boolean" and isinstance(v, bool) else None for v in series]
    elif types.is_numeric_dtype(series.dtype):
        return series.where(series % 1 == 0).astype("Int64") if dtype == "Int64" else series.astype("float64")
    else:
        numbers = (v if isinstance(v, Real) and not isinstance(v, bool) else None for v in series)
        fitting = [v if dtype == "float64" or v is None or v % 1 == 0 else None for v in numbers]
    return pd.Series(fitting, series.index, dtype=dtype)


def _says(standard: pd.Series[Any], column: pd.Series[Any]) -> bool:
    """Whether a standard column says all that another one says."""
    known = column.notna()
    if column.dtype != object and column.dtype != "str":
        return bool(standard[known].notna().all() and (column[known] == standard[known]).all())
    pairs = zip(column[known], standard[known], standard[known].notna(), strict=True)
    return all(there and value == found for value, found, there in pairs)
