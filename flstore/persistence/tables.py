"""The metadata of one round as a Parquet file: a row a client, a column a field, what is known of the server beside it.

A field whose values are plain and of one type is a typed column, null where a client lacks it. What no column can
hold as it is (lists and dicts, None, an integer among floats or beyond 64 bits, fields whose type differs between
clients) is in the column :data:`OTHER`, as JSON by field, and goes before what a typed column says. So any reader of
Parquet sees what is plain, and this module gives back exactly what was written.

Neither compressed nor with statistics: the files are small, and whoever looks for a client's data finds its id in the
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xxhash

from flstore.tensors import Buffer, as_bytes

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "flstore-metadata-2"
CLIENT, OTHER = "client", "other fields (JSON)"
MAGIC = b"PAR1"

_RESERVED = frozenset([CLIENT, OTHER, "job", "round"])  # the last two are what readers make of the folders' names
_SERVER, _CHECKSUM = "flstore.server", "flstore.checksum"
_DIGITS = 32
_ABSENT = object()
_INT64 = range(-(1 << 63), 1 << 63)

Rows = Mapping[str, Mapping[str, Any]]


def dump(rows: Rows, server: Mapping[str, Any]) -> bytes:
    """Encode; equal content gives equal bytes, in whatever order clients came."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = json.dumps({"format": FORMAT, "server": server})
    table, sink = to_table(rows), pa.BufferOutputStream()
    # Plain client ids: a dictionary of them would be all of them.
    options: Any = {"use_dictionary": [name for name in table.column_names if name != CLIENT] or False}
    options |= {"compression": "none", "write_statistics": False, "store_schema": False}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:  # type: ignore[no-untyped-call]
        writer.write_table(table)
        writer.add_key_value_metadata({_SERVER: said, _CHECKSUM: "0" * _DIGITS})
    data = bytearray(sink.getvalue())
    at = _digits_at(data)
    data[at : at + _DIGITS] = _checksum(data, at)
    return bytes(data)


def load(data: Buffer) -> tuple[pa.Table, dict[str, Any]]:
    """The table, and the fields of the server; ValueError for bytes that :func:`dump` did not write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = as_bytes(data)
    at = _digits_at(bytes(content))
    if _checksum(content, at) != bytes(content[at : at + _DIGITS]):
        raise ValueError("its checksum is not that of its bytes")
    file: Any = pq.ParquetFile(pa.BufferReader(pa.py_buffer(content)))  # type: ignore[no-untyped-call]
    said = json.loads(file.metadata.metadata[_SERVER.encode()])
    if said["format"] != FORMAT:
        raise ValueError(f"format {said['format']!r} is unknown, this version reads {FORMAT!r}")
    return file.read(use_threads=False).replace_schema_metadata(None), said["server"]


def to_table(rows: Rows) -> pa.Table:
    """The columns, sorted by client."""
    import pyarrow as pa

    clients = sorted(rows)
    others: list[dict[str, Any]] = [{} for _ in clients]
    columns: dict[str, pa.Array] = {CLIENT: pa.array(clients, pa.string())}
    for field in dict.fromkeys(field for client in clients for field in rows[client]):
        values = [rows[client].get(field, _ABSENT) for client in clients]
        kind = None if field in _RESERVED or not _is_unicode(field) else _kind(values)
        if kind is not None and (column := _simple(values, kind)) is not None:
            columns[field] = column
            continue
        if kind is not None:
            columns[field] = pa.array([_held(value, kind) for value in values], getattr(pa, kind)())
        for row, value in zip(others, values, strict=True):
            if value is not _ABSENT and (kind is None or not _is_exact(value, kind)):
                row[field] = value
    if any(others):
        columns[OTHER] = pa.array([json.dumps(row) if row else None for row in others], pa.string())
    return pa.table(columns)


def to_rows(table: pa.Table) -> dict[str, dict[str, Any]]:
    """The fields of each client, as they were given to :func:`to_table`."""
    names = [name for name in table.column_names if name not in (CLIENT, OTHER)]
    columns = [table.column(name).to_pylist() for name in names]
    others = dict(other_fields(table))
    rows = {}
    for i, client in enumerate(table.column(CLIENT).to_pylist()):
        row = {name: column[i] for name, column in zip(names, columns, strict=True) if column[i] is not None}
        rows[client] = {**row, **others.get(i, {})}
    return rows


def other_fields(table: pa.Table) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number of each row that has some, and the fields that no column of it holds as they are."""
    if OTHER in table.column_names:
        for i, text in enumerate(table.column(OTHER).to_pylist()):
            if text is not None:
                yield i, json.loads(text)


def _kind(values: Sequence[Any]) -> str | None:
    """The type of Parquet that fits all values but for the odd one; None when there is none."""
    types = set(map(type, values)) - {type(None), object}
    if types == {int, float}:
        return "float64"
    return {bool: "bool_", int: "int64", float: "float64", str: "string"}.get(types.pop()) if len(types) == 1 else None


def _simple(values: Sequence[Any], kind: str) -> pa.Array | None:
    """The column, where it holds all values as they are; None where they must be looked at one by one."""
    import pyarrow as pa

    types = set(map(type, values))
    if type(None) in types or (kind == "float64" and int in types):
        return None
    try:
        return pa.array(
            [None if v is _ABSENT else v for v in values] if object in types else values, getattr(pa, kind)()
        )
    except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid):
        return None


def _held(value: Any, kind: str) -> Any:
    """What a column of this type says; None where it can say nothing."""
    if value is None or value is _ABSENT:
        return None
    if kind == "float64":
        return float(value) if abs(value) <= 1 << 1000 or type(value) is float else None
    return value if _is_exact(value, kind) else None


def _is_exact(value: Any, kind: str) -> bool:
    """Whether what a column of this type says is the value itself."""
    if kind == "float64":
        return type(value) is float
    if kind == "int64":
        return value is not None and value in _INT64
    return value is not None and (kind == "bool_" or _is_unicode(value))


def _is_unicode(text: str) -> bool:
    """Whether it is without halves of surrogate pairs, which JSON can escape and Parquet cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _digits_at(data: bytes | bytearray) -> int:
    """Where the checksum is: after the last mention of its name, because nothing of the content comes later."""
    at = data.rfind(_CHECKSUM.encode()) + len(_CHECKSUM)
    if not data.startswith(MAGIC) or at < len(_CHECKSUM) or data[at : at + 2] != bytes([0x18, _DIGITS]):
        raise ValueError("it has no checksum where one belongs")  # 0x18: Thrift's mark of the next string
    return at + 2


def _checksum(data: Buffer, at: int) -> bytes:
    """xxh3-128 over everything, its own digits read as zeros."""
    view = as_bytes(data)
    state = xxhash.xxh3_128(view[:at])
    state.update(b"0" * _DIGITS)
    state.update(view[at + _DIGITS :])
    return state.hexdigest().encode()
