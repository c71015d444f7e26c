"""From what a caller hands over to what is stored: everything is checked, then encoded, before anything is kept."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from flstore import codec
from flstore.catalogue import Catalogue
from flstore.errors import (
    CorruptObjectError,
    InvalidParameterError,
    InvalidUpdateError,
    UpdateExistsError,
    UpdateNotFoundError,
)
from flstore.persistence.layout import object_path
from flstore.persistence.metadata import RoundMetadata
from flstore.persistence.values import metadata_size
from flstore.tensor_layout import Layout
from flstore.tensors import nonfinite
from flstore.types import Key, Kind

ENCODE_THREADS = 4
WORTH_THREADS_BYTES = 4 << 20


@dataclass
class Arrival:
    """What is new in one call of ingest, encoded.

    Attributes
    ----------
    buffers : dict of Key to buffer
        Updates and the aggregate.
    metadata : dict of client to dict
        New fields.
    metadata_rows : dict of client to dict
        The same with the fields that were known before.
    signature : (str, tuple), optional
        A client, and the tensors that it and so all of the round send.
    nonfinite : dict of client to int
        How many NaN or infinite values an update has, where it has any.
    """

    round: int
    buffers: dict[Key, Any] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    metadata_rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    signature: tuple[str, Any] | None = None
    nonfinite: dict[str, int] = field(default_factory=dict)

    def sizes(self) -> Iterator[tuple[Kind, dict[str | None, int]]]:
        """Bytes of what arrived, by kind."""
        for kind in (Kind.UPDATE, Kind.AGGREGATE):
            found = {k.client: memoryview(b).nbytes for k, b in self.buffers.items() if k.kind is kind}
            if found:
                yield kind, found
        if self.metadata_rows:
            yield Kind.METADATA, {c: metadata_size(row) for c, row in self.metadata_rows.items()}


@dataclass(frozen=True)
class Stored:
    """How to look at what is there already: an object's bytes, its checksum, the metadata rows of a round."""

    read: Callable[[Key], Any]
    checksum: Callable[[Key], str]
    metadata: Callable[[int], Mapping[str, Any]]


@dataclass
class Plan:
    """What one call of ingest hands over, checked, laid out, and not copied yet.

    Attributes
    ----------
    layouts : dict of Key to Layout
        Updates and the aggregate.
    rows : dict of client to dict
        Metadata as it was given.
    signature : (str, tuple), optional
        A client, and the tensors that it and so all of the round send.
    """

    round: int
    layouts: dict[Key, Layout] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    signature: tuple[str, Any] | None = None

    def sizes(self) -> dict[Key, int]:
        """Bytes of each object."""
        return {key: layout.size_bytes for key, layout in self.layouts.items()}


def check(
    catalogue: Catalogue,
    stored: Stored,
    signature: tuple[str, Any] | None,
    round: int,
    updates: Mapping[str, Mapping[str, Any]],
    aggregate: Mapping[str, Any] | None,
    metadata: Mapping[str, Mapping[str, Any]] | None,
) -> Plan:
    """Raise what can be known without reading a number. `signature` is known of the round from an earlier call."""
    if isinstance(round, bool) or not isinstance(round, int) or round < 0:
        raise InvalidParameterError(f"round must be an integer from 0 on, got {round!r}")
    for what, given in (("updates", updates), ("metadata", metadata or {})):
        if not isinstance(given, Mapping):
            raise InvalidUpdateError(f"{what} must be a dict by client id, got {type(given).__name__}")
    if not updates and aggregate is None and not metadata:
        raise InvalidUpdateError(f"round {round} is empty: no updates, no aggregate and no metadata")
    plan = Plan(round, rows={str(c): dict(row) for c, row in (metadata or {}).items()})
    for client, tensors in updates.items():
        key = Key(catalogue.job, Kind.UPDATE, round, _client(client))
        if key in plan.layouts:
            raise InvalidUpdateError(f"client {key.client!r} is in the updates of round {round} twice")
        layout = _layout(key, tensors)
        if signature is None:
            signature = _signature_of_round(catalogue, stored, round) or (str(key.client), layout.signature)
        _compare(key, layout.signature, signature)
        plan.layouts[key] = layout
    if aggregate is not None:
        key = Key(catalogue.job, Kind.AGGREGATE, round)
        plan.layouts[key] = _layout(key, aggregate)
    RoundMetadata.of(plan.rows)  # raises for values that it cannot hold
    plan.signature = signature
    return plan


def encode(catalogue: Catalogue, stored: Stored, plan: Plan) -> Arrival:
    """Copy what was planned, and leave out what is stored already."""
    arrival = Arrival(plan.round, signature=plan.signature)
    marks = _marks(catalogue, plan.round)
    rows = {client: dict(row) for client, row in plan.rows.items()}
    for key, (buffer, bad) in zip(plan.layouts, _encoded(list(plan.layouts.values())), strict=True):
        if not _is_new(catalogue, stored, key, buffer):
            continue
        arrival.buffers[key] = buffer
        if key.kind is Kind.UPDATE:
            if bad:
                arrival.nonfinite[str(key.client)] = bad
            row = rows.setdefault(str(key.client), {})
            row.update({**marks, **row, "size_bytes": buffer.nbytes, "nonfinite": bad})
    arrival.metadata = RoundMetadata.of(rows).rows
    if rows:
        before = stored.metadata(plan.round)
        arrival.metadata_rows = {c: {**before.get(c, {}), **row} for c, row in arrival.metadata.items()}
    return arrival


def _marks(catalogue: Catalogue, round: int) -> dict[str, Any]:
    """What metadata says of an update that comes now: nothing, or that its round is closed and how old its model is."""
    if not catalogue.is_closed(round):
        return {}
    return {"late": True, "staleness": catalogue.closed()[-1] - (round - 1)}


def _encoded(layouts: list[Layout]) -> list[tuple[memoryview, int]]:
    """The buffer of each layout and its count of non-finite values; by several threads where that pays."""

    def one(layout: Layout) -> tuple[memoryview, int]:
        buffer = layout.encode()
        if layout.key.kind is not Kind.UPDATE:
            return buffer, 0
        return buffer, sum(nonfinite(layout.arrays).values())

    if sum(layout.size_bytes for layout in layouts) < WORTH_THREADS_BYTES:
        return [one(layout) for layout in layouts]
    with ThreadPoolExecutor(min(ENCODE_THREADS, os.cpu_count() or 1), thread_name_prefix="flstore-encode") as threads:
        return list(threads.map(one, layouts))


def _client(client: Any) -> str:
    if not isinstance(client, str | int):
        raise InvalidUpdateError(f"client ids are strings, got {client!r}")
    return str(client)


def _layout(key: Key, tensors: Mapping[str, Any]) -> Layout:
    object_path(key)  # raises for an id that cannot name an object
    try:
        return Layout.of(key, tensors)
    except InvalidUpdateError as error:
        raise InvalidUpdateError(f"{key}: {error}") from error


def _signature_of_round(catalogue: Catalogue, stored: Stored, round: int) -> Any:
    """What the round's tensors look like, from an update that a previous process stored."""
    others = [] if round not in catalogue.rounds() else catalogue.clients(round)
    for other in others:
        try:
            object = stored.read(Key(catalogue.job, Kind.UPDATE, round, other))
            return other, codec.decode(object, verify=False).signature
        except (CorruptObjectError, UpdateNotFoundError):
            continue  # the next one will do
    return None


def _compare(key: Key, found: Any, signature: tuple[str, Any]) -> None:
    """All clients of a round send tensors of the same names, dtypes and shapes."""
    other, expected = signature
    if found == expected:
        return
    mine, theirs = {n: (d, s) for n, d, s in found}, {n: (d, s) for n, d, s in expected}
    for name in sorted(set(mine) | set(theirs)):
        if name not in mine:
            near = difflib.get_close_matches(name, set(mine) - set(theirs), n=1)
            text = f"has no tensor {name!r}" + (f" (but {near[0]!r})" if near else "")
        elif name not in theirs:
            text = f"has a tensor {name!r}"
        elif mine[name] != theirs[name]:
            text = f"has {name!r} as {_shape(mine[name])} instead of {_shape(theirs[name])}"
        else:
            continue
        raise InvalidUpdateError(
            f"{key} {text}, unlike client {other!r} of the same round; a round has one architecture"
        )


def _shape(entry: tuple[str, tuple[int, ...]]) -> str:
    return f"{entry[0]}{list(entry[1])}"


def _is_new(catalogue: Catalogue, stored: Stored, key: Key, buffer: Any) -> bool:
    """Whether nothing is stored under the key; an identical object is no news, another one an error."""
    if not catalogue.has(key):
        return True
    try:
        checksum = stored.checksum(key)
    except UpdateNotFoundError:  # somebody deleted it: this is how it comes back
        return True
    if checksum == codec.checksum_of(buffer):
        return False
    raise UpdateExistsError(
        f"another {key} is stored already; it was not overwritten (use another round, client id or job)"
    )
