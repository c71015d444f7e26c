"""NumPy's file format, read in place."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flstore.errors import InvalidUpdateError

# NumPy reads its header as Python source. That goes through the interpreter's parser, which in Python 3.11 must not run
# in two threads at once ("AST constructor recursion depth mismatch"), and this code runs beside the training thread.
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[^']*)', 'fortran_order': (?P<fortran>True|False), 'shape': \((?P<shape>[0-9, ]*)\), \}\s*"
)


def decode_npy(data: bytes, dtype: str = "") -> NDArray[Any]:
    """View the bytes of one ``.npy`` array without a copy; the view is read-only.

    Parameters
    ----------
    data : bytes
        What ``numpy.save`` wrote.
    dtype : str
        Name of the dtype as Flower tells it. ``.npy`` has no name for bfloat16 and the 8-bit floats: they come as plain
        bytes, and are found again by this name.

    Raises
    ------
    InvalidUpdateError
        Not an array in this format, truncated, or one of Python objects.
    """
    try:
        if data[:6] != b"\x93NUMPY" or data[6] not in (1, 2, 3):
            raise ValueError("they do not start as one")
        length_bytes = 2 if data[6] == 1 else 4
        start = 8 + length_bytes + int.from_bytes(data[8 : 8 + length_bytes], "little")
        header = _HEADER.fullmatch(data[8 + length_bytes : start])
        if header is None:
            raise ValueError("their header is unknown, or one of Python objects or structures")
        stored = np.dtype(header["dtype"].decode())
        if stored.hasobject:
            raise ValueError("arrays of Python objects are refused")
        if stored.kind == "V":
            import ml_dtypes

            stored = np.dtype(getattr(ml_dtypes, dtype, stored))
        shape = tuple(int(n) for n in header["shape"].split(b",") if n.strip())
        return np.ndarray(shape, stored, data, start, order="F" if header["fortran"] == b"True" else "C")
    except (ValueError, IndexError, TypeError) as error:
        raise InvalidUpdateError(
            f"{len(data)} bytes are no NumPy array ({dtype or 'dtype unknown'}): {error}"
        ) from error
