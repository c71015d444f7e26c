"""The metadata of one round as one document: a dict of fields a client, and one for the server.

In the persistent store a document is a Parquet file (:mod:`flstore.persistence.tables`). Documents that an earlier
version wrote are JSON, which is also the shorter way where a document only passes through memory. NaN and infinities
are kept, in JSON as Python writes them (``NaN``, ``Infinity``): a diverged loss is a finding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from flstore.errors import CorruptObjectError, InvalidUpdateError
from flstore.persistence import tables
from flstore.persistence.layout import encode_id
from flstore.tensors import Buffer, as_bytes

if TYPE_CHECKING:
    import pyarrow as pa

JSON_FORMAT = "flstore-metadata-1"

_SCALARS = frozenset([type(None), bool, int, float, str])


@dataclass(slots=True)
class RoundMetadata:
    """What is known about the work of one round; `rows` by client, fields by name."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Mapping[str, Mapping[str, Any]], server: Mapping[str, Any] | None = None) -> RoundMetadata:
        """A copy in plain values.

        Raises
        ------
        InvalidUpdateError
            A value that JSON cannot hold; the message names its client and field.
        InvalidIdError
            A client id that cannot name an object.
        """
        plain_rows = {}
        for client, row in _fields(rows, "metadata").items():
            encode_id("client", client)
            plain_rows[client] = _plain(_fields(row, f"metadata of client {client!r}"), f"client {client!r}")
        return cls(plain_rows, _plain(_fields(server or {}, "metadata of the server"), "the server"))

    @classmethod
    def load(cls, data: Buffer, where: str) -> RoundMetadata:
        """Read what :meth:`dump` or :meth:`dump_json` wrote; ``CorruptObjectError`` for anything else."""
        with _damage_of(where):
            if is_table(data):
                table, server = tables.load(data)
                return cls(tables.to_rows(table), server)
            document = json.loads(bytes(as_bytes(data)))
            if document["format"] != JSON_FORMAT:
                raise ValueError(f"format {document['format']!r} is unknown, this version reads {JSON_FORMAT!r}")
            return cls.of(document["clients"], document["server"])

    @classmethod
    def load_table(cls, data: Buffer, where: str) -> pa.Table:
        """As :meth:`load`, without making rows of what is stored by column."""
        if not is_table(data):
            return tables.to_table(cls.load(data, where).rows)
        with _damage_of(where):
            return tables.load(data)[0]

    def dump(self) -> bytes:
        """The document as the persistent store keeps it."""
        return tables.dump(self.rows, self.server)

    def dump_json(self) -> bytes:
        """The document by rows, which takes a tenth of the time to read when it is small."""
        return json.dumps({"format": JSON_FORMAT, "clients": self.rows, "server": self.server}).encode()

    def merge(self, newer: RoundMetadata) -> None:
        """Take over what `newer` says, field by field."""
        for client, row in newer.rows.items():
            self.rows.setdefault(client, {}).update(row)
        self.server.update(newer.server)


def is_table(data: Buffer) -> bool:
    """Whether a document is Parquet; else it should be JSON."""
    return bytes(as_bytes(data)[: len(tables.MAGIC)]) == tables.MAGIC


@contextmanager
def _damage_of(where: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, RecursionError, OSError) as exc:
        raise CorruptObjectError(f"{where} is damaged: {exc}") from exc


def _fields(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidUpdateError(f"{what} is a mapping, not {type(value).__name__}")
    return value


def _plain(value: Any, where: str) -> Any:
    """Plain Python values in new containers; NumPy scalars become numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise InvalidUpdateError(f"metadata of {where}: field name {name!r} is not a string")
        return {
            name: item if type(item) in _SCALARS else _plain(item, f"{where}, field {name!r}")
            for name, item in value.items()
        }
    hint = "; pass value.tolist()" if hasattr(value, "tolist") else ""
    raise InvalidUpdateError(f"metadata of {where}: {type(value).__name__} is not a JSON value{hint}")
