"""What travels between a store and its functions: plain msgpack values and byte buffers, never a pickle of ours.

A value is None, bool, int, float, str, bytes, a list, a dict with string keys, or a NumPy array or scalar.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from flstore.errors import BY_NAME, FLStoreError, InvalidParameterError, RequestError
from flstore.tensors import BY_NAME as DTYPES
from flstore.types import Key, Kind
from flstore.workloads.base import Scope

_ARRAY = 1
_LONGEST_HEAD = 1024  # dtype and shape of an array of the most dimensions that NumPy has


def pack(value: Any) -> bytes:
    """Encode a value.

    Raises
    ------
    InvalidParameterError
        It holds something that is no plain value; the message says what.
    """
    return bytes(msgpack.packb(value, default=_default, strict_types=False))


def unpack(data: Any) -> Any:
    """Decode what :func:`pack` wrote. Arrays come back writable and owned."""
    return msgpack.unpackb(data, ext_hook=_ext_hook, strict_map_key=False)


def _default(value: Any) -> Any:
    if isinstance(value, np.generic) and not isinstance(value, np.void):
        return value.item()
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return value.tolist()
        if value.dtype.kind in "US":
            return value.tolist()
        # To NumPy's own notation, bfloat16 and float8 are bytes without a name.
        dtype = value.dtype.name if value.dtype.isbuiltin == 2 else value.dtype.str
        head = msgpack.packb([dtype, list(value.shape)])
        return msgpack.ExtType(_ARRAY, head + np.ascontiguousarray(value).tobytes())
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise InvalidParameterError(
        f"{value!r} ({type(value).__name__}) cannot travel to a cache function; "
        f"use numbers, strings, lists, dicts or arrays"
    )


def _ext_hook(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        return msgpack.ExtType(code, data)
    unpacker = msgpack.Unpacker()
    unpacker.feed(data[:_LONGEST_HEAD])
    dtype, shape = unpacker.unpack()
    known = DTYPES[dtype][1] if dtype in DTYPES else np.dtype(dtype)
    return np.frombuffer(data, dtype=known, offset=unpacker.tell()).reshape(shape).copy()


def pack_result(result: Any) -> bytes:
    """Encode the dataclass that a workload returned, field by field."""
    return pack({f.name: getattr(result, f.name) for f in dataclasses.fields(result)})


def unpack_result(result_type: type, data: Any) -> Any:
    """Build the result of a workload again. Lists stand where it had tuples, as in every result type of ours."""
    return result_type(**unpack(data))


def scope_of(order: Mapping[str, Any]) -> Scope:
    """What a request is about, from the order that it travels in."""
    scope = dict(order["scope"])
    if scope["rounds"] is not None:
        scope["rounds"] = tuple(scope["rounds"])
    return Scope(**scope)


def key_values(key: Key) -> list[Any]:
    """A key as plain values."""
    return [key.job, int(key.kind), key.round, key.client]


def key_of(values: list[Any]) -> Key:
    """The key that :func:`key_values` described."""
    job, kind, round, client = values
    return Key(str(job), Kind(kind), int(round), None if client is None else str(client))


def error_values(error: BaseException) -> dict[str, Any]:
    """An error as plain values; what is not one of ours arrives as a ``RequestError`` that says what it was."""
    if isinstance(error, FLStoreError):
        key = None if error.key is None else key_values(error.key)
        return {"error": type(error).__name__, "message": str(error), "key": key}
    return {"error": "RequestError", "message": f"{type(error).__name__}: {error}"}


def error_of(reply: Mapping[str, Any]) -> FLStoreError:
    """The error that :func:`error_values` described."""
    error = BY_NAME.get(reply["error"], RequestError)(reply["message"])
    key = reply.get("key")
    error.key = None if key is None else key_of(list(key))
    return error
