"""Objects in parts: cut, read from a store, put together; and what is damaged is noticed."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from flstore import codec, parts
from flstore.errors import CorruptObjectError
from flstore.persistence import ObjectStore
from flstore.types import Cut, Key, Kind, Part
from flstore.workloads._gram import gram

KEY = Key("job", Kind.UPDATE, 3, "c")


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": rng.normal(size=(7, 5, 3)).astype("f4"), "conv.bias": rng.normal(size=7).astype("f4"),
        "norm.seen": np.array(seed), "norm.empty": np.empty((0, 4), "f4"), "head.weight": rng.normal(size=(11, 13)),
        "head.half": rng.normal(size=33).astype(ml_dtypes.bfloat16),
    }  # fmt: skip


def whole(seed: int = 0) -> codec.ClientUpdate:
    return codec.decode(codec.encode(KEY, tensors(seed)))


def all_parts(update: codec.ClientUpdate, of: int, cut: Cut) -> list[codec.ClientUpdate]:
    wanted = [Part(i, of, cut) for i in range(of)]
    return [codec.decode(parts.cut(update, part), key=KEY, part=part) for part in wanted]


@pytest.mark.parametrize("cut", list(Cut))
@pytest.mark.parametrize("of", [2, 3, 4])
def test_parts_put_together_are_the_object(of: int, cut: Cut):
    update = whole()
    again = parts.join(KEY, all_parts(update, of, cut))
    assert bytes(again.buffer) == bytes(update.buffer)
    assert again.part is None


@pytest.mark.parametrize("cut", list(Cut))
@pytest.mark.parametrize("root", ["memory://parts", None])
def test_a_part_read_from_a_store_is_the_part_that_was_cut(cut: Cut, root: str | None, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PIECE_BYTES", 100)
    objects = ObjectStore(root or str(tmp_path))
    objects.put(KEY, whole().buffer)
    sizes = []

    def read(start: int, size: int):
        sizes.append(size)
        return objects.get_range(KEY, start, size)

    for part in all_parts(whole(), 3, cut):
        assert part.part is not None
        found = parts.read_part(read, KEY, part.part)
        assert bytes(found.buffer) == bytes(part.buffer)
    assert max(sizes[2:]) < whole().size_bytes


def test_damage_outside_the_part_is_noticed_too():
    damaged = bytearray(whole().buffer)
    damaged[-1] ^= 1
    for part, cut in itertools.product(range(3), Cut):
        with pytest.raises(CorruptObjectError, match="checksum"):
            parts.read_part(lambda start, size: damaged[start : start + size], KEY, Part(part, 3, cut))
    with pytest.raises(CorruptObjectError, match="its header describes"):
        parts.read_part(lambda start, size: damaged[: len(damaged) - 9][start : start + size], KEY, Part(0, 2))


def test_a_part_is_not_taken_for_the_whole_nor_for_another_part():
    first, second = (parts.cut(whole(), Part(i, 2)) for i in range(2))
    with pytest.raises(CorruptObjectError):
        codec.decode(first, key=KEY)
    with pytest.raises(CorruptObjectError):
        codec.decode(first, key=KEY, part=Part(1, 2))
    with pytest.raises(CorruptObjectError):
        parts.join(KEY, [codec.decode(b) for b in (second, first)])
    with pytest.raises(CorruptObjectError, match="in part"):
        parts.read_part(lambda start, size: first[start : start + size], KEY, Part(0, 2))


def test_gram_matrices_of_parts_add_up():
    updates = [whole(seed) for seed in range(4)]
    reference = whole(9)
    total = sum(
        gram([all_parts(u, 3, Cut.RANGES)[i] for u in updates], all_parts(reference, 3, Cut.RANGES)[i])
        for i in range(3)
    )
    np.testing.assert_allclose(total, gram(updates, reference), rtol=1e-6)


def test_tensors_are_cut_between_layers_where_that_is_nearly_even():
    sizes = {f"{i}.{name}": n for i in range(6) for name, n in (("weight", 100), ("bias", 1))}
    runs = [parts.names_of(sizes, Part(i, 3, Cut.TENSORS)) for i in range(3)]
    assert [sorted({name[0] for name in run}) for run in runs] == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert list(itertools.chain(*runs)) == list(sizes)
    uneven = {"net.a": 100, "net.b": 100, "net.c": 100, "head.w": 1}
    assert parts.names_of(uneven, Part(0, 3, Cut.TENSORS)) == ["net.a"]


def test_a_smaller_range_is_cut_from_the_range_that_it_lies_in():
    held = all_parts(whole(), 3, Cut.RANGES)[1]
    for number in range(12):
        part = Part(number, 12)
        inside = 4 <= number < 8
        assert parts.contains(held.part, part) == inside
        if inside:
            assert bytes(parts.cut(held, part)) == bytes(parts.cut(whole(), part))
    assert not parts.contains(held.part, Part(2, 4))
    assert not parts.contains(held.part, Part(1, 3, Cut.TENSORS))
    assert parts.contains(None, Part(1, 3, Cut.TENSORS))
