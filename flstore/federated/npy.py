"""NumPy's file format, read in place."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from flstore.errors import InvalidUpdateError


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
    head = io.BytesIO(data)
    try:
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(head)]
        shape, fortran, stored = read(head)
        if stored.hasobject:
            raise ValueError("arrays of Python objects are refused")
        if stored.kind == "V" and stored.names is None:
            import ml_dtypes

            stored = np.dtype(getattr(ml_dtypes, dtype, stored))
        return np.ndarray(shape, stored, data, head.tell(), order="F" if fortran else "C")
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidUpdateError(
            f"{len(data)} bytes are no NumPy array ({dtype or 'dtype unknown'}): {error}"
        ) from error
