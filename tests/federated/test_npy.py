import io

import ml_dtypes
import numpy as np
import pytest
from flwr.app import Array

from flstore.errors import InvalidUpdateError
from flstore.federated.npy import decode_npy


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(7),
        np.zeros((0, 3), np.int8),
        np.array([True, False]),
        np.array([1, 2], dtype=">f8"),
        np.array([1.5, -2], dtype=np.float16),
        np.array([1.5, -2], dtype=ml_dtypes.bfloat16),
        np.array([0.5, -2], dtype=ml_dtypes.float8_e4m3fn),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_it_reads_what_flower_writes_without_a_copy(array: np.ndarray):
    sent = Array(array)
    got = decode_npy(sent.data, sent.dtype)
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    assert np.array_equal(got, array)
    assert not got.flags.writeable
    assert not got.flags.owndata
    memory = np.frombuffer(sent.data, np.uint8)
    assert array.size == 0 or np.shares_memory(got, memory)


def saved(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [b"", b"no array", saved(np.ones(4))[:-1], saved(np.ones(4))[:20], saved(np.array([{}]), allow_pickle=True)],
    ids=["empty", "garbage", "truncated", "header", "objects"],
)
def test_what_is_no_array_is_refused(data: bytes):
    with pytest.raises(InvalidUpdateError, match=f"{len(data)} bytes are no NumPy array"):
        decode_npy(data)
