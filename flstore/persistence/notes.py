"""Small JSON documents that lie in a root itself, beside the jobs: written whole, read whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flstore.errors import CorruptObjectError
from flstore.persistence.again import again
from flstore.persistence.root import Root
from flstore.tensors import as_bytes


def read_note(root: Root, name: str) -> dict[str, Any] | None:
    """What the document says; None when there is none.

    Raises
    ------
    CorruptObjectError
        It is no JSON object.
    StoreError
        It could not be read. May be retried.
    """
    with root._meaning(f"read {name}"):
        stored = again(root._files.read)(name) if root._files.exists(name) else None
    if stored is None:
        return None
    try:
        document = json.loads(bytes(as_bytes(stored)))
        if not isinstance(document, dict):
            raise ValueError(f"it holds a {type(document).__name__}")
    except ValueError as error:
        raise CorruptObjectError(f"{name} below {root.root} is no JSON object: {error}") from error
    return document


def write_note(root: Root, name: str, document: Mapping[str, Any]) -> None:
    """Write a document in place of the one before; who reads it meanwhile finds one of the two, whole.

    Raises
    ------
    StoreError
        Nothing changed. May be retried.
    """
    text = json.dumps(document, indent=1, allow_nan=False)
    with root._meaning(f"write {name}"):
        root._files.replace(name, text.encode())
