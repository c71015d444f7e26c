"""The contract of a persistent store, as a suite that anybody can run on a file system of their own.

One test function is enough; any URL will do that fsspec knows:

>>> import uuid
>>> check_objects(lambda: f"memory://{uuid.uuid4().hex}")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from flstore.codec import checksum_of, decode, encode
from flstore.errors import CorruptObjectError, FLStoreError, UpdateExistsError, UpdateNotFoundError
from flstore.persistence import ObjectStore, object_path
from flstore.types import Key, Kind

_RACERS = 8
_LARGE = 500_000


def check_objects(
    make_root: Callable[[], str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    exclusive: bool = True,
    open_store: Callable[[str, Mapping[str, Any] | None], ObjectStore] = ObjectStore,
) -> None:
    """Check that objects can be kept below a root.

    - What was put is read back, byte for byte, also by another store on the same root, and after a large object.
    - Putting an object again does nothing; another one under its key is refused, and the stored one stays.
    - A name that is taken cannot be created, so of several that put different objects under one key at the same time
      one succeeds (with `exclusive`).
    - Listings show every object, the empty root included, with its size, and nothing else; ids may have any character.
    - A damaged or missing object is healed with a whole copy; a whole one is never replaced.
    - Metadata is merged by client and field, from many threads too.
    - What is not there is an ``UpdateNotFoundError``, not another error and not nothing.

    Parameters
    ----------
    make_root : callable
        Returns an empty root, another one at every call. What is written there stays.
    storage_options : mapping, optional
        For fsspec.
    exclusive : bool, default True
        Whether the file system can create a file only when there is none. Some S3 servers cannot.
    open_store : callable
        Opens a root; for stores that keep their objects in another way.

    Raises
    ------
    AssertionError
        Says which promise was broken.
    """
    checks: list[Callable[[ObjectStore], None]] = [_round_trip, _absent, _conflict, _healed]
    checks += [_listing, _metadata, _probe]
    for check in [*checks, *([_taken, _race] if exclusive else [])]:
        root = make_root()
        try:
            check(open_store(root, storage_options))
        except FLStoreError as error:
            raise AssertionError(f"{check.__name__.strip('_')} on {root}: {type(error).__name__}: {error}") from error


def _object(round: int, client: str | None, fill: float = 1.0, size: int = 1000) -> tuple[Key, memoryview]:
    key = Key("job", Kind.AGGREGATE if client is None else Kind.UPDATE, round, client)
    return key, encode(key, {"w": np.full(size, fill, np.float32)})


def _round_trip(objects: ObjectStore) -> None:
    made = dict([_object(3, "7"), _object(3, None), _object(4, "7", fill=2.0, size=_LARGE)])
    for key, data in made.items():
        _same(objects.put(key, data), True, f"put of a new {key}")
    for store in (objects, type(objects)(**objects.spec)):
        for key, data in made.items():
            _same(store.exists(key), True, f"exists of {key}")
            _same(store.checksum(key), checksum_of(data), f"checksum of {key}")
            _same(bytes(store.get(key)) == bytes(data), True, f"whether {key} is read as it was written")
            decode(store.get(key), key=key)
    _same(list(objects.get_many(made)), list(made), "keys of get_many")


def _absent(objects: ObjectStore) -> None:
    objects.put(*_object(2, "7"))
    for key in (_object(2, "8")[0], _object(3, "7")[0], _object(2, None)[0]):
        _same(objects.exists(key), False, f"exists of an absent {key}")
        for ask in (objects.get, objects.checksum):
            try:
                ask(key)
            except UpdateNotFoundError:
                continue
            raise AssertionError(f"{ask.__name__} of an absent {key} raised no UpdateNotFoundError")
    _same(objects.get_metadata("job", 2), ({}, {}), "metadata that was never put")


def _conflict(objects: ObjectStore) -> None:
    key, data = _object(3, "7")
    objects.put(key, data)
    _same(objects.put(key, data), False, "put of the same object again")
    try:
        objects.put(*_object(3, "7", fill=2.0))
    except UpdateExistsError:
        _same(bytes(objects.get(key)) == bytes(data), True, "whether a refused put left the stored object")
        return
    raise AssertionError("another object under a key that is taken raised no UpdateExistsError")


def _healed(objects: ObjectStore) -> None:
    key, data = _object(3, "7")
    _same(objects.heal(key, data), True, "heal of a missing object")
    _same(objects.heal(key, _object(3, "7", fill=2.0)[1]), False, "heal of a whole object with another one")
    for damaged in (data[: len(data) // 2], bytes(data[:-1]) + bytes([data[-1] ^ 0xFF]), b""):
        objects._files.replace(object_path(key), damaged)
        _same(objects.heal(key, data), True, "heal of a damaged object")
        _same(bytes(objects.get(key)) == bytes(data), True, "whether a healed object is whole")
    try:
        objects.heal(key, data[:-1])
    except CorruptObjectError:
        _same(bytes(objects.get(key)) == bytes(data), True, "whether a refused copy left the stored object")
        return
    raise AssertionError("a copy that is damaged itself was accepted")


def _taken(objects: ObjectStore) -> None:
    """A race is seldom lost in a test, so ask for what decides it: a name that is taken cannot be created."""
    key, data = _object(3, "7")
    objects.put(key, data)
    try:
        objects._files.create(object_path(key), _object(3, "7", fill=2.0)[1])
    except FileExistsError:
        _same(bytes(objects.get(key)) == bytes(data), True, "whether a name that is taken keeps its object")
        return
    raise AssertionError("a file was created under a name that is taken; pass exclusive=False if that is known")


def _race(objects: ObjectStore) -> None:
    made = [_object(3, "7", fill=float(i)) for i in range(_RACERS)]

    def won(one: tuple[Key, memoryview]) -> bool:
        try:
            return objects.put(*one)
        except UpdateExistsError:
            return False

    with ThreadPoolExecutor(_RACERS) as pool:
        winners = [checksum_of(data) for (_, data), first in zip(made, pool.map(won, made), strict=True) if first]
    _same(winners, [objects.checksum(made[0][0])], "checksums of those that won a race, and of what is stored")


def _listing(objects: ObjectStore) -> None:
    _same((objects.jobs(), objects.rounds("job"), objects.clients("job", 3)), ([], [], {}), "an empty root")
    for round, client in [(10, "../x y%/é"), (3, "b"), (3, "a"), (3, None), (2, None)]:
        objects.put(*_object(round, client))
    objects.put_metadata("job", 4, {"a": {"loss": 1.0}})

    def size(round: int, client: str | None) -> int:
        return _object(round, client)[1].nbytes

    _same(objects.jobs(), ["job"], "jobs")
    _same(objects.rounds("job"), [2, 3, 4, 10], "rounds")
    whole = [
        (2, {}, size(2, None), False),
        (3, {"a": size(3, "a"), "b": size(3, "b")}, size(3, None), False),
        (4, {}, None, True),
        (10, {"../x y%/é": size(10, "../x y%/é")}, None, False),
    ]
    _same(list(objects.listing("job")), whole, "listing")


def _metadata(objects: ObjectStore) -> None:
    objects.put_metadata("job", 1, {"a": {"loss": 2.0, "lr": 0.5}, "b": {"n": 3}})
    objects.put_metadata("job", 1, {"a": {"loss": 1.0}, "c": {"n": 4}}, {"round_s": 2})
    merged = {"a": {"loss": 1.0, "lr": 0.5}, "b": {"n": 3}, "c": {"n": 4}}
    _same(objects.get_metadata("job", 1), (merged, {"round_s": 2}), "merged metadata")
    with ThreadPoolExecutor(_RACERS) as pool:
        list(pool.map(lambda i: objects.put_metadata("job", 2, {str(i): {"i": i}}), range(2 * _RACERS)))
    expected = {str(i): {"i": i} for i in range(2 * _RACERS)}
    _same(objects.get_metadata("job", 2)[0], expected, "metadata put from many threads")


def _probe(objects: ObjectStore) -> None:
    objects.check_writable()
    _same((objects.jobs(), objects.rounds("job")), ([], []), "a root after check_writable")


def _same(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise AssertionError(f"{what}: {found!r}, expected {expected!r}")
