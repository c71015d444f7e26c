"""One object is one safetensors buffer: exact bytes in, exact views out, and nothing damaged gets through."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flstore.codec import (
    ALIGNMENT,
    CHECKSUM_PREFIX_BYTES,
    aligned_copy,
    checksum_of,
    decode,
    encode,
    nonfinite,
)
from flstore.errors import CorruptObjectError, InvalidUpdateError
from flstore.tensors import DTYPES, own_pages
from flstore.types import Key, Kind

KEY = Key("job", Kind.UPDATE, 3, "client 7")

names = st.text(st.characters(exclude_categories=("Cs",)), max_size=12).filter(lambda n: n != "__metadata__")
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Random bits of a random dtype and shape."""
    dtype = draw(st.sampled_from(sorted(DTYPES.values(), key=str)))
    shape = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype).reshape(shape)


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def data_start(buffer: memoryview) -> int:
    return 8 + int.from_bytes(buffer[:8], "little")


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, arrays(), min_size=1, max_size=8))
def test_round_trip_layout_and_determinism(tensors: dict[str, np.ndarray]) -> None:
    buffer = encode(KEY, tensors)
    assert encode(KEY, dict(tensors)) == buffer
    assert buffer.readonly
    update = decode(buffer, key=KEY)
    assert (update.key, update.size_bytes, update.checksum) == (KEY, len(buffer), checksum_of(buffer))
    assert list(update) == list(tensors)
    assert data_start(buffer) % ALIGNMENT == 0
    for name, array in tensors.items():
        view = update[name]
        assert (view.dtype, view.shape, bits(view)) == (array.dtype, array.shape, bits(array))
        assert view.flags.aligned
        assert view.ctypes.data % view.itemsize == 0
        assert not view.flags.writeable
    for dtype in {array.dtype for array in tensors.values()}:
        runs = update.runs(dtype)
        assert len(runs) <= 2
        assert all(run.ndim == 1 for run in runs)
        mine = sorted(bits(v) for a in tensors.values() if a.dtype == dtype for v in a.reshape(-1, 1))
        assert sorted(bits(v) for run in runs for v in run.reshape(-1, 1)) == mine


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(names, hnp.arrays(st.sampled_from(["f4", "i8", "u1", "?"]), shapes), min_size=1, max_size=6))
def test_other_safetensors_readers_see_the_same(tensors: dict[str, np.ndarray]) -> None:
    read = safetensors.numpy.load(bytes(encode(KEY, tensors)))
    assert read.keys() == tensors.keys()
    assert all(read[n].dtype == a.dtype and bits(read[n]) == bits(a) for n, a in tensors.items())


def test_header_is_ours_and_starts_with_the_checksum() -> None:
    buffer = encode(KEY, {"w": np.zeros(3, np.float32)})
    header = json.loads(bytes(buffer[8 : data_start(buffer)]))
    assert header["__metadata__"] == {
        "checksum": checksum_of(bytes(buffer[:CHECKSUM_PREFIX_BYTES])),
        "format": "flstore-1",
        "job": "job",
        "kind": "update",
        "round": "3",
        "client": "client 7",
    }
    assert next(iter(header)) == "__metadata__"
    assert next(iter(header["__metadata__"])) == "checksum"


def test_views_are_not_copies() -> None:
    buffer = encode(KEY, {"w": np.arange(100.0)})
    update = decode(buffer)
    whole = np.frombuffer(buffer, np.uint8)
    assert np.shares_memory(update["w"], whole)
    assert np.shares_memory(update.runs("float64")[0], whole)
    assert update.buffer == buffer
    assert np.shares_memory(np.frombuffer(update.buffer, np.uint8), whole)


def test_key_is_part_of_the_bytes_and_of_the_checksum() -> None:
    tensors = {"w": np.ones(2, np.float32)}
    keys = [KEY, Key("job", Kind.UPDATE, 4, "client 7"), Key("job", Kind.UPDATE, 3, "8"), Key("job", Kind.AGGREGATE, 3)]
    updates = [decode(encode(k, tensors)) for k in keys]
    assert [u.key for u in updates] == keys
    assert len({u.checksum for u in updates}) == 4
    assert len(set(updates)) == 4
    assert updates[0] == decode(encode(KEY, {"w": np.ones(2, np.float32)}))


def test_any_strides_and_byte_order() -> None:
    base = np.arange(24, dtype=np.int32).reshape(4, 6)
    update = decode(encode(KEY, {"t": base.T, "s": base[::2, ::-1], "big": base.astype(">i4"), "scalar": np.int32(5)}))
    assert (update["t"] == base.T).all()
    assert (update["s"] == base[::2, ::-1]).all()
    assert (update["big"] == base).all()
    assert update["big"].dtype == np.dtype("<i4")
    assert update["scalar"].shape == ()
    assert update["scalar"] == 5


def test_torch_tensors_of_every_kind() -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Linear(3, 2)
    tensors = {
        "param": model.weight,
        "bf16": torch.linspace(-3, 3, 12, dtype=torch.bfloat16).reshape(3, 4).T,
        "f8": torch.tensor([0.5, -2.0]).to(torch.float8_e4m3fn),
        "zero-d": torch.tensor(7),
        "conj": torch.tensor([1 + 2j]).conj(),
        "channels_last": torch.arange(24.0).reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
    }
    update = decode(encode(KEY, tensors))
    assert update.dtypes == ("bfloat16", "complex64", "float32", "float8_e4m3fn", "int64")
    assert (update["param"] == model.weight.detach().numpy()).all()
    assert update["bf16"].shape == (4, 3)
    assert update["bf16"].dtype == ml_dtypes.bfloat16
    assert (update["bf16"].astype(np.float32) == tensors["bf16"].float().numpy()).all()
    assert update["f8"].astype(np.float32).tolist() == [0.5, -2.0]
    assert update["zero-d"].shape == ()
    assert update["zero-d"] == 7
    assert update["conj"].tolist() == [1 - 2j]
    assert (update["channels_last"] == np.arange(24.0).reshape(1, 2, 3, 4)).all()


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ([np.ones(2)], "mapping of names to tensors, not list"),
        ({}, "at least one tensor"),
        ({3: np.ones(2)}, "tensor name 3"),
        ({"__metadata__": np.ones(2)}, "taken by the format"),
        ({"w": [1.0, 2.0]}, "'w' is a list"),
        ({"w": 1.0}, "'w' is a float"),
        ({"w": np.array([None])}, "dtype object; supported: bfloat16, bool"),
        ({"w": np.array(["a"])}, "dtype <U1"),
        ({"w": np.zeros(2, "V3")}, "dtype"),
        ({"w": np.zeros(2, np.complex128)}, "dtype complex128"),
        ({"w": np.zeros(2, "M8[s]")}, "dtype datetime64"),
        ({"\ud800": np.zeros(2)}, "not valid Unicode"),
    ],
)
def test_what_cannot_be_an_update(tensors: object, says: str) -> None:
    with pytest.raises(InvalidUpdateError) as caught:
        encode(KEY, tensors)  # type: ignore[arg-type]
    assert says in str(caught.value)


def test_torch_tensors_without_plain_data() -> None:
    torch = pytest.importorskip("torch")
    for tensor, says in [
        (torch.empty(2, device="meta"), "meta device"),
        (torch.eye(3).to_sparse(), "to_dense"),
    ]:
        with pytest.raises(InvalidUpdateError, match=says):
            encode(KEY, {"w": tensor})


@pytest.mark.parametrize(
    "key", [Key("j", Kind.METADATA, 1, "c"), Key("j", Kind.UPDATE, 1), Key("j", Kind.AGGREGATE, 1, "c")]
)
def test_keys_that_hold_no_tensors(key: Key) -> None:
    with pytest.raises(InvalidUpdateError, match="an UPDATE has a client"):
        encode(key, {"w": np.ones(2)})


def small_object() -> bytes:
    return bytes(encode(KEY, {"w": np.arange(5, dtype=np.float32), "b": np.zeros((2, 3), np.int8), "n": np.int64(4)}))


def test_every_flipped_byte_is_found() -> None:
    good = small_object()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x20
        with pytest.raises(CorruptObjectError):
            decode(bad)


def test_every_truncation_and_any_trailer_is_found() -> None:
    good = small_object()
    for size in range(len(good)):
        for verify in (True, False):
            with pytest.raises(CorruptObjectError):
                decode(good[:size], verify=verify)
    with pytest.raises(CorruptObjectError, match=f"{len(good) + 1} bytes, but its header describes {len(good)}"):
        decode(good + b"\0", verify=False)


def test_another_object_than_the_key() -> None:
    with pytest.raises(CorruptObjectError, match="holds the update of client 'client 7' in round 3"):
        decode(small_object(), key=Key("job", Kind.UPDATE, 4, "client 7"))


def test_files_of_others_are_refused() -> None:
    with pytest.raises(CorruptObjectError, match="not written by FLStore"):
        decode(safetensors.numpy.save({"w": np.ones(50)}))
    with pytest.raises(CorruptObjectError):
        checksum_of(safetensors.numpy.save({"w": np.ones(50)}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"shape":[5]', b'"shape":[6]'),
        (b'"shape":[5]', b'"shape":5  '),
        (b'"shape":[5]', b'"shape":[true]'),
        (b'"shape":[5]', b'"shape":[-5]'),
        (b'"shape":[2,3]', b'"shape":[0,9223372036854775807,9]'),
        (b'"dtype":"F32"', b'"dtype":"F99"'),
        (b'"dtype":"F32"', b'"dtype":[]'),
        (b'"format":"flstore-1"', b'"format":"flstore-9"'),
        (b'"kind":"update"', b'"kind":"banana"'),
        (b'"job":"job"', b'"job":17'),
        (b'"round":"3"', b'"round":"x"'),
        (b'"w":{', b'"w":{"data_offsets":1},"v":{'),
    ],
)
def test_headers_are_not_trusted_without_the_checksum_either(old: bytes, new: bytes) -> None:
    good = small_object()
    start = data_start(memoryview(good))
    assert old in good[:start]
    text = good[8:start].replace(old, new).rstrip()
    text += b" " * (-(8 + len(text)) % 64)
    with pytest.raises(CorruptObjectError):
        decode(len(text).to_bytes(8, "little") + text + good[start:], verify=False)


def test_overlapping_offsets_are_refused() -> None:
    good = bytes(encode(KEY, {"a": np.zeros(16, np.float32), "b": np.ones(16, np.float32)}))
    assert good.count(b"[64,128]") == 1
    with pytest.raises(CorruptObjectError, match="'b' is not where it belongs"):
        decode(good.replace(b"[64,128]", b"[00,064]").replace(b"[00,064]", b"[0,64]  "), verify=False)


@pytest.mark.parametrize("size", [1, 1000, (1 << 20) - 1, 1 << 20, 3_000_001])
def test_own_pages_are_aligned_and_their_memory_goes_with_them(size: int) -> None:
    found = own_pages(size)
    assert (found.nbytes, found.ctypes.data % 64, found.flags.writeable) == (size, 0, True)
    assert np.array_equal(aligned_copy(bytes(range(256)), own_pages), np.arange(256, dtype=np.uint8))
    at = found.ctypes.data
    del found
    if size > 1 << 20:
        assert not any(first <= at < last for first, last in _mapped())


def _mapped() -> list[tuple[int, int]]:
    """Ranges of addresses that this process has, on Linux; none elsewhere."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return [(int(a, 16), int(b, 16)) for a, b in (line.split()[0].split("-") for line in lines)]


def test_aligned_copy_is_aligned_and_owned() -> None:
    for skip in range(8):
        source = bytearray(skip + 1000)
        copy = aligned_copy(memoryview(source)[skip:])
        assert copy.ctypes.data % ALIGNMENT == 0
        assert copy.nbytes == 1000
        source[skip] = 1
        assert copy[0] == 0
    assert aligned_copy(b"").nbytes == 0


def test_nonfinite_counts() -> None:
    big = np.zeros(600_000, np.float32)
    big[[0, 300_000, 599_999]] = np.nan, np.inf, -np.inf
    tensors = {
        "big": big,
        "half": np.array([np.inf, 1], np.float16),
        "brain": np.array([[np.nan, 1], [2, np.nan]], ml_dtypes.bfloat16),
        "eight": np.array([np.nan, 0], ml_dtypes.float8_e5m2),
        "complex": np.array([complex(0, np.nan)], np.complex64),
        "fine": np.ones(3),
        "whole": np.arange(3),
        "none": np.ones((0, 4), np.float32),
    }
    expected = {"big": 3, "half": 1, "brain": 2, "eight": 1, "complex": 1}
    assert nonfinite(tensors) == expected
    assert nonfinite(decode(encode(KEY, tensors))) == expected


def test_signature_and_repr() -> None:
    first = decode(encode(KEY, {"b": np.ones(2, np.float32), "a": np.int8(1)}))
    second = decode(encode(Key("job", Kind.AGGREGATE, 0), {"a": np.int8(2), "b": np.zeros(2, np.float32)}))
    assert first.signature == second.signature == (("a", "int8", ()), ("b", "float32", (2,)))
    assert (list(first), list(second)) == (["b", "a"], ["a", "b"])
    assert first.runs(np.float32)[0].tolist() == [1, 1]
    assert first.runs("float16") == []
    assert (
        repr(first)
        == "<ClientUpdate update of client 'client 7' in round 3 of job 'job': 2 tensors, 0.0 MB, float32, int8>"
    )


def test_a_real_network_lies_on_cache_lines() -> None:
    torch = pytest.importorskip("torch")
    schemas = torch.library.Library("torchvision", "FRAGMENT")
    try:
        from torchvision.models import resnet18
    except RuntimeError:
        # A CUDA build beside a CPU torch: its operators are missing, its models work.
        for name in ("nms", "qnms"):
            schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from torchvision.models import resnet18
    state = resnet18(num_classes=10).state_dict()
    update = decode(encode(KEY, state))
    sizes = {name: view.nbytes for name, view in update.items()}
    on_lines = sum(size for name, size in sizes.items() if update[name].ctypes.data % 64 == 0)
    assert on_lines >= 0.995 * sum(sizes.values())
    assert list(update) == list(state)
    assert len(update.runs()) <= 2
    assert sum(run.size for run in update.runs()) == sum(t.numel() for t in state.values() if t.dtype == torch.float32)
    assert all((update[name] == tensor.numpy()).all() for name, tensor in state.items())
