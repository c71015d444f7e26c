"""What travels between a store and its functions: plain values in, the same out, and nothing else."""

import pickle
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flstore import errors
from flstore.functions import wire
from flstore.types import Key, Kind

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_come_back(value: object) -> None:
    assert wire.unpack(wire.pack(value)) == value


@given(hnp.arrays(st.sampled_from(["f4", "f8", "i8", "u1", "?", "c8"]), hnp.array_shapes(min_dims=0, min_side=0)))
def test_arrays_come_back_with_dtype_and_shape_and_can_be_written(array: np.ndarray) -> None:
    back = wire.unpack(wire.pack({"a": [array]}))["a"][0]
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_arrays_of_foreign_dtypes_come_back_as_such(dtype: type) -> None:
    array = np.array([[0.5, -2.0, 448.0]]).astype(dtype)
    back = wire.unpack(wire.pack([array]))[0]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_an_array_larger_than_a_message_of_msgpack_comes_back() -> None:
    back = wire.unpack(wire.pack(np.zeros(101 << 20, np.uint8)))
    assert back.shape == (101 << 20,)


def test_numpy_scalars_strings_and_sets_become_plain() -> None:
    value = {"n": np.float32(0.5), "names": np.array(["a", "b"]), "set": {2, 1}}
    assert wire.unpack(wire.pack(value)) == {"n": 0.5, "names": ["a", "b"], "set": [1, 2]}


def test_what_cannot_travel_is_named() -> None:
    with pytest.raises(errors.InvalidParameterError, match=r"object \(object\)|cannot travel"):
        wire.pack({"x": object()})


def test_a_pickle_is_not_opened() -> None:
    with pytest.raises(ValueError):
        wire.unpack(pickle.dumps({"a": 1}))


@dataclass(frozen=True, eq=False)
class Answer:
    labels: list[int]
    matrix: np.ndarray


def test_results_are_built_again() -> None:
    back = wire.unpack_result(Answer, wire.pack_result(Answer([1, 2], np.eye(2))))
    assert back.labels == [1, 2]
    np.testing.assert_array_equal(back.matrix, np.eye(2))


@pytest.mark.parametrize(
    "key", [Key("j", Kind.UPDATE, 3, "c"), Key("j", Kind.AGGREGATE, 0), Key("", Kind.METADATA, 1, "ü")]
)
def test_keys_come_back(key: Key) -> None:
    assert wire.key_of(wire.unpack(wire.pack(wire.key_values(key)))) == key


@pytest.mark.parametrize("cls", list(errors.BY_NAME.values()))
def test_our_errors_cross_as_themselves_and_survive_pickling(cls: type[errors.FLStoreError]) -> None:
    back = wire.error_of(wire.error_values(cls("the message")))
    assert type(back) is cls
    assert str(back) == "the message"
    again = pickle.loads(pickle.dumps(back))
    assert (type(again), str(again)) == (cls, "the message")
    rebuilt = cls.__new__(cls, *back.args)  # how tblib, which Dask brings, unpickles exceptions
    assert (type(rebuilt), str(rebuilt)) == (cls, "the message")


def test_other_errors_cross_as_request_errors() -> None:
    back = wire.error_of(wire.error_values(ZeroDivisionError("by zero")))
    assert type(back) is errors.RequestError
    assert str(back) == "ZeroDivisionError: by zero"


def test_an_error_travels_with_the_key_that_it_is_about() -> None:
    error = errors.CorruptObjectError("torn")
    error.key = Key("job", Kind.UPDATE, 3, "7")
    arrived = wire.error_of(wire.unpack(wire.pack(wire.error_values(error))))
    assert (type(arrived), str(arrived), arrived.key) == (errors.CorruptObjectError, "torn", error.key)
    assert wire.error_of(wire.error_values(ValueError("odd"))).key is None
    assert pickle.loads(pickle.dumps(error)).key == error.key
