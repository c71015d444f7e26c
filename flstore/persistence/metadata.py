"""The metadata of one round as one JSON document: a dict of fields a client, and one for the server.

NaN and infinities are kept as Python's JSON writes them (``NaN``, ``Infinity``): a diverged loss is a finding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flstore.errors import CorruptObjectError, InvalidUpdateError
from flstore.persistence.layout import encode_id
from flstore.tensors import Buffer, as_bytes

FORMAT = "flstore-metadata-1"


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
        """Read what :meth:`dump` wrote; ``CorruptObjectError`` for anything else."""
        try:
            document = json.loads(bytes(as_bytes(data)))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r} is unknown, this version reads {FORMAT!r}")
            return cls.of(document["clients"], document["server"])
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise CorruptObjectError(f"{where} is damaged: {exc}") from exc

    def dump(self) -> bytes:
        """The document."""
        return json.dumps({"format": FORMAT, "clients": self.rows, "server": self.server}).encode()

    def merge(self, newer: RoundMetadata) -> None:
        """Take over what `newer` says, field by field."""
        for client, row in newer.rows.items():
            self.rows.setdefault(client, {}).update(row)
        self.server.update(newer.server)


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
        return {name: _plain(item, f"{where}, field {name!r}") for name, item in value.items()}
    hint = "; pass value.tolist()" if hasattr(value, "tolist") else ""
    raise InvalidUpdateError(f"metadata of {where}: {type(value).__name__} is not a JSON value{hint}")
