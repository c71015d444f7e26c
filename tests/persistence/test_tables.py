"""Metadata by column: what was written comes back exactly, and any reader of Parquet sees what is plain."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flstore.persistence import ObjectStore, tables
from flstore.persistence.temporaries import may_be_of

ODD: dict[str, dict[str, Any]] = {
    "b": {
        **{"loss": math.nan, "lr": 1, "big": 2**63, "exact": 2**53 + 1, "mix": 1, "truth": True, "none": None},
        **{"list": [1, {"deep": None}], "dict": {}, "half": "\ud800", "huge": 10**400, "zero": -0.0},
    },
    "a": {"loss": -math.inf, "lr": 0.5, "big": 5, "exact": -7, "mix": "1", "truth": 1, "none": 3, "half": "ü"},
    "ü": {},
    "c": {"mix": True, "": "no name", "a.b": 1, "client": "x", "round": 3, "job": "j", tables.OTHER: "y", "\udc00": 1},
}


def there_and_back(rows: dict[str, dict[str, Any]], server: dict[str, Any]) -> tuple[Any, Any]:
    table, told = tables.load(tables.dump(rows, server))
    return tables.to_rows(table), told


def by_repr(rows: dict[str, dict[str, Any]]) -> str:
    """NaN equals itself here, and 1 is neither 1.0 nor True."""
    return repr({client: dict(sorted(row.items())) for client, row in sorted(rows.items())})


def test_every_value_comes_back_as_it_was() -> None:
    server = {"flstore.checksum": "\x18 flstore.checksum", "none": None, "list": [1.5]}
    rows, told = there_and_back(ODD, server)
    assert by_repr(rows) == by_repr(ODD)
    assert told == server
    assert there_and_back({}, {}) == ({}, {})
    assert there_and_back({"a": {}}, {"x": 1}) == ({"a": {}}, {"x": 1})


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda some: st.lists(some, max_size=2) | st.dictionaries(st.text(max_size=2), some, max_size=2),
    max_leaves=3,
)
fields = st.sampled_from(["x", "y", "client", ""]) | st.text(max_size=3)


@given(st.dictionaries(st.text(min_size=1), st.dictionaries(fields, values, max_size=4), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_rows_come_back(rows: dict[str, dict[str, Any]]) -> None:
    assert by_repr(there_and_back(rows, {})[0]) == by_repr(rows)


def test_a_plain_reader_sees_typed_columns() -> None:
    rows = {
        "b": {"loss": 0.5, "n": 3, "who": "x", "good": True, "mixed": 1, "lr": 1},
        "a": {"loss": math.nan, "n": 4, "mixed": "1", "lr": 0.5},
    }
    read = pq.read_table(io.BytesIO(tables.dump(rows, {})))
    kinds = {"client": pa.string(), "loss": pa.float64(), "n": pa.int64(), "mixed": None, "lr": pa.float64()}
    kinds |= {"who": pa.string(), "good": pa.bool_()}
    assert {f.name: f.type for f in read.schema if f.name != tables.OTHER} == {k: v for k, v in kinds.items() if v}
    assert read.column("client").to_pylist() == ["a", "b"]
    assert read.column("good").to_pylist() == [None, True]
    assert read.column("lr").to_pylist() == [0.5, 1.0]
    assert [text and json.loads(text) for text in read.column(tables.OTHER).to_pylist()] == [
        {"mixed": "1"},
        {"mixed": 1, "lr": 1},
    ]


def test_equal_content_is_equal_bytes_in_whatever_order_clients_came() -> None:
    assert tables.dump(dict(reversed(ODD.items())), {"x": 1}) == tables.dump(ODD, {"x": 1})


def test_any_changed_bit_and_any_lost_byte_is_noticed() -> None:
    data = tables.dump({"a": {"loss": 0.5, "who": "x"}, "b": {"loss": 1, "list": [1]}}, {"round_s": 2})
    for i in range(len(data)):
        changed = bytearray(data)
        changed[i] ^= 1 << i % 8
        for damaged in (bytes(changed), data[:i]):
            with pytest.raises(ValueError, match="checksum"):
                tables.load(damaged)


def test_a_parquet_file_of_somebody_else_is_none_of_ours() -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"client": ["a"]}), sink)
    with pytest.raises(ValueError, match="no checksum where one belongs"):
        tables.load(sink.getvalue())


def test_a_torn_file_tells_whose_rows_are_in_it() -> None:
    data = tables.dump({"leaver": {"secret": "x" * 50}, "stayer": {"n": 1}}, {})
    for torn in (data, data[: len(data) // 2]):
        assert may_be_of("leaver", torn)
        assert not may_be_of("leave", torn)
        assert not may_be_of("nobody", torn)


def test_pyarrow_is_imported_when_metadata_is_read_and_not_before(tmp_path: Path) -> None:
    code = (
        "import sys; from flstore import FLStore; from flstore.persistence import ObjectStore;"
        "store = ObjectStore(sys.argv[1]); before = 'pyarrow' in sys.modules;"
        "rows = store.get_metadata('job', 1)[0]; print(before, 'pyarrow' in sys.modules, 'pandas' in sys.modules, rows)"
    )
    ObjectStore(tmp_path).put_metadata("job", 1, {"a": {"x": 1}})
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False True False {'a': {'x': 1}}"
